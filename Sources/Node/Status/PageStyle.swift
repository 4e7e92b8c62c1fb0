// PageStyle: how the status page looks: light and dark, wide and on a phone, where each row of a table becomes a card.

enum PageStyle {
    static let text = """
        :root{color-scheme:light dark;--bg:#f4f5f7;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#e2e6ec;--up:#0b7a3b;
        --upbg:#e3f5ea;--bad:#b3261e;--badbg:#fdeceb;--odd:#8a5300;--oddbg:#fdf3e1;--accent:#2458d3;--graph:#2458d3}
        @media(prefers-color-scheme:dark){:root{--bg:#11151b;--card:#1a2029;--ink:#e7ebf0;--soft:#9aa7b8;--line:#2b3441;
        --up:#57cf86;--upbg:#12301f;--bad:#ff8d85;--badbg:#3b1715;--odd:#f0b860;--oddbg:#35270f;--accent:#8fb1ff;
        --graph:#7aa2ff}}
        *{box-sizing:border-box}
        body{font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0;background:var(--bg);color:var(--ink)}
        main{max-width:1440px;margin:0 auto;padding:1rem 1.25rem 3rem;font-variant-numeric:tabular-nums}
        .old main{opacity:.45;filter:grayscale(1)}
        h1,h2{margin:0;line-height:1.2}h1{font-size:1.55rem}h2{font-size:1.05rem;margin:1.7rem 0 .6rem}
        h2 small{font-weight:400;color:var(--soft);font-size:.85rem}
        a{color:var(--accent)}.soft{color:var(--soft)}
        .skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem}
        header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:baseline;justify-content:space-between}
        header p{margin:0}
        .lead{margin:.9rem 0 0;padding:.9rem 1.1rem;border-radius:.7rem;font-size:1.15rem;background:var(--upbg);
        border-left:.4rem solid var(--up)}
        .lead.bad{background:var(--badbg);border-color:var(--bad)}.lead.odd{background:var(--oddbg);border-color:var(--odd)}
        .lead strong{font-size:1.25rem}.lead .soft{font-size:1rem}
        .problems{margin:.5rem 0 0;padding:.7rem 1.1rem .7rem 2.3rem;border-radius:.7rem;background:var(--badbg);
        border:2px solid var(--bad);color:var(--bad);font-weight:600}
        #stale{position:sticky;top:0;z-index:2;margin:0;padding:.6rem 1.25rem;background:#b3261e;color:#fff;font-weight:700;
        text-align:center}
        .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.7rem;margin:.8rem 0 0}
        .facts div{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:.65rem .9rem}
        dt{color:var(--soft);font-size:.8rem}dd{margin:0;font-size:1.3rem;font-weight:650}
        dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}dd.bad{color:var(--bad)}
        table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line);border-radius:.7rem;
        overflow:hidden;font-size:.93rem}
        th,td{text-align:left;padding:.4rem .5rem;border-bottom:1px solid var(--line);vertical-align:middle}
        tbody tr:last-child>*{border-bottom:0}thead th{font-size:.78rem;color:var(--soft);font-weight:600}
        tbody th{font-weight:650}#servers{overflow-x:auto}.n{text-align:right;white-space:nowrap}td small{display:block;color:var(--soft)}
        td small.odd{color:var(--odd);font-weight:650}
        td.why{max-width:15rem;overflow-wrap:anywhere;font-size:.88rem}
        .mark{display:inline-block;padding:.05rem .5rem;border-radius:1rem;font-size:.85rem;font-weight:650;
        white-space:nowrap;margin:.06rem .15rem .06rem 0;background:var(--line)}
        .mark.up{background:var(--upbg);color:var(--up)}.mark.down{background:var(--badbg);color:var(--bad)}
        .mark.odd{background:var(--oddbg);color:var(--odd)}td.bad{color:var(--bad);font-weight:650}td.odd{color:var(--odd)}
        tr.bad>th:first-child{box-shadow:inset .3rem 0 var(--bad)}tr.odd>th:first-child{box-shadow:inset .3rem 0 var(--odd)}
        svg{display:block}.spark{width:5.5rem;height:1.7rem}.facts .spark{width:100%;height:1.6rem;margin-top:.3rem}
        .spark path{fill:var(--graph);fill-opacity:.2;stroke:var(--graph);stroke-width:1.3;vector-effect:non-scaling-stroke}
        .spark path.e{fill:none;stroke:var(--bad);stroke-width:2.4}
        .bar{width:100%;height:.5rem;margin-top:.45rem;border-radius:.25rem}.bar .all{fill:var(--line)}.bar .left{fill:var(--up)}
        .bar.low .left{fill:var(--bad)}
        .act{display:none;white-space:nowrap}.live .act{display:inline-flex;gap:.2rem}
        html:not(.live) .acts{display:none}
        button{font:inherit;font-size:.85rem;padding:.2rem .6rem;border-radius:.45rem;border:1px solid var(--line);
        background:var(--bg);color:var(--ink);cursor:pointer}
        button:hover{border-color:var(--accent)}button[aria-pressed=true]{background:var(--accent);border-color:var(--accent);
        color:var(--card);font-weight:650}
        :focus-visible{outline:3px solid var(--accent);outline-offset:2px}
        .events{list-style:none;margin:0;padding:.3rem 0;background:var(--card);border:1px solid var(--line);
        border-radius:.7rem}
        .events li{display:grid;grid-template-columns:6.5rem 6rem 9.5rem 1fr;gap:.2rem .8rem;padding:.22rem .9rem}
        .events time{color:var(--soft)}
        dialog{border:1px solid var(--line);border-radius:.8rem;background:var(--card);color:var(--ink);max-width:27rem;
        width:calc(100% - 2rem);padding:1.2rem}dialog::backdrop{background:#0008}
        dialog label{display:block;margin:.7rem 0;font-size:.9rem}
        dialog label[hidden]{display:none}
        dialog input{display:block;width:100%;font:inherit;padding:.45rem .6rem;margin-top:.2rem;border-radius:.45rem;
        border:1px solid var(--soft);background:var(--bg);color:var(--ink)}
        dialog h2{margin:0}#ask-problem{color:var(--bad);font-weight:600;min-height:1.4em;margin:.4rem 0}
        .go{display:flex;justify-content:flex-end;gap:.6rem}.go button{font-size:1rem;padding:.4rem 1rem}
        .go [name=go]{background:var(--accent);border-color:var(--accent);color:var(--card);font-weight:650}
        #done:empty{display:none}#done{position:fixed;bottom:1rem;left:50%;transform:translateX(-50%);background:var(--ink);
        color:var(--bg);padding:.6rem 1.1rem;border-radius:.7rem;margin:0;max-width:90vw;z-index:3}
        footer{margin-top:1.6rem;color:var(--soft);font-size:.88rem}
        @media(max-width:1279px){table,tbody,tr,th,td{display:block}thead{display:none}table{background:none;border:0}
        tbody tr{background:var(--card);border:1px solid var(--line);border-radius:.7rem;margin-bottom:.6rem;
        padding:.5rem .8rem;display:grid;grid-template-columns:repeat(auto-fit,minmax(8.2rem,1fr));gap:.35rem .8rem;
        overflow:hidden}
        tbody th,tbody td,tbody td.n{border:0;padding:0;text-align:left}tbody th{grid-column:1/-1;font-size:1.1rem}
        tr.bad>th:first-child,tr.odd>th:first-child{box-shadow:none}tr.bad{border-left:.35rem solid var(--bad)}
        td.wide,td.acts,td.acts-state{grid-column:1/-1}td[data-t]::before{content:attr(data-t);display:block;font-size:.75rem;
        color:var(--soft);font-weight:400}button{font-size:1rem;padding:.4rem .8rem}
        .events li{grid-template-columns:6rem 1fr;padding:.4rem .9rem;border-bottom:1px solid var(--line)}
        .events li>:last-child{grid-column:1/-1}.spark{width:100%}main{padding:.8rem}}
        """
}

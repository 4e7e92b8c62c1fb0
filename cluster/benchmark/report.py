"""What the figures come to: medians and ratios, as a table, as JSON and as a picture.

A ratio is the median, over the rounds, of each round's ratio, since what else the machine does changes from round to
round. `best haproxy` is, case by case, the one of haproxy's two configurations that took less CPU per request.
"""

import json
import statistics

HAPROXY = ("haproxy", "haproxy-tuned")


def median(rounds, key):
    return statistics.median(figures[key] for figures in rounds)


def ratio(rounds, base, key):
    """Median, lowest and highest of the rounds' ratios to the same rounds of `base`."""
    ratios = sorted(mine[key] / other[key] for mine, other in zip(rounds, base) if other[key])
    return statistics.median(ratios), ratios[0], ratios[-1]


def best_haproxy(by_proxy):
    return min((name for name in HAPROXY if name in by_proxy), key=lambda name: median(by_proxy[name], "cpu"))


def rows(results, loads):
    """Per load and proxy: what the table and the picture show."""
    found = []
    for load in loads:
        by_proxy = results[load.name]
        base_name = best_haproxy(by_proxy)
        base = by_proxy[base_name]
        for name, rounds in by_proxy.items():
            # The control tells how far apart two measurements of the same process are.
            other = by_proxy["haproxy"] if name == "haproxy-control" else base
            cpu, low, high = ratio(rounds, other, "cpu")
            found.append({
                "load": load.name, "title": load.title, "proxy": name, "base": base_name, "cpu": median(rounds, "cpu"),
                "ratio": cpu, "low": low, "high": high, "rate": median(rounds, "rate"),
                "rateRatio": ratio(rounds, base, "rate")[0], "p50": median(rounds, "p50"), "p99": median(rounds, "p99"),
                "p99Ratio": ratio(rounds, base, "p99")[0], "p999": median(rounds, "p999"),
                "errors": sum(figures["errors"] for figures in rounds)})
    return found


def table(found):
    head = ("load", "proxy", "CPU µs/req", "÷ haproxy", "range", "req/s", "÷", "p50 ms", "p99 ms", "÷", "p99.9", "errors")
    lines = [head]
    for row in found:
        lines.append((
            row["load"], row["proxy"] + ("*" if row["proxy"] == row["base"] else ""), f'{row["cpu"]:.2f}',
            f'{row["ratio"]:.2f}', f'{row["low"]:.2f}–{row["high"]:.2f}', f'{row["rate"]:.0f}',
            f'{row["rateRatio"]:.2f}', f'{row["p50"] / 1000:.2f}', f'{row["p99"] / 1000:.2f}',
            f'{row["p99Ratio"]:.2f}', f'{row["p999"] / 1000:.2f}', str(row["errors"])))
    return columns(lines) + "\n* haproxy's better configuration for this load: what the ratios are to\n"


def columns(lines):
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    text = ""
    for line in lines:
        cells = [cell.ljust(width) if index < 2 else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(line, widths))]
        text += "  ".join(cells).rstrip() + "\n"
    return text


def markdown(found):
    """The table for a README: a row per load."""
    text = "| load | triad | best haproxy | nginx | triad ÷ haproxy | haproxy ÷ itself | p99 ÷ haproxy's |\n"
    text += "|---|---|---|---|---|---|---|\n"
    for load in dict.fromkeys(row["load"] for row in found):
        by_proxy = {row["proxy"]: row for row in found if row["load"] == load}
        triad, base = by_proxy.get("triad"), by_proxy[next(iter(by_proxy.values()))["base"]]
        control, nginx = by_proxy.get("haproxy-control"), by_proxy.get("nginx")
        cells = [base["title"]]
        cells.append(f'{triad["cpu"]:.1f} µs' if triad else "")
        cells.append(f'{base["cpu"]:.1f} µs' + (" (tuned)" if base["proxy"] == "haproxy-tuned" else ""))
        cells.append(f'{nginx["cpu"]:.1f} µs' if nginx else "")
        cells.append(f'**{triad["ratio"]:.2f}** ({triad["low"]:.2f}–{triad["high"]:.2f})' if triad else "")
        cells.append(f'{control["ratio"]:.2f} ({control["low"]:.2f}–{control["high"]:.2f})' if control else "")
        cells.append(f'{triad["p99Ratio"]:.2f}' if triad else "")
        text += "| " + " | ".join(cells) + " |\n"
    return text


def to_json(path, description, found, extra):
    with open(path, "w") as file:
        json.dump({"machine": description, "loads": found, **extra}, file, indent=1, ensure_ascii=False)


def svg(path, description, found):
    """CPU per request as bars, haproxy's best configuration being 1; readable on light and dark pages."""
    loads = list(dict.fromkeys(row["load"] for row in found))
    shown = [("triad", "Triad", "t"), ("nginx", "nginx", "n")]
    left, unit, bar, step = 200, 340, 13, 46
    height = 70 + step * len(loads) + 40
    width = left + int(unit * 1.9) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        "<title>CPU time per request, haproxy = 1</title>",
        "<style>text{fill:#24292f}.t{fill:#1a7f5a}.n{fill:#9aa4ae}.l{stroke:#c0392b}.s{fill:#57606a;font-size:11px}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.t{fill:#3fb68b}.n{fill:#6e7681}.s{fill:#9198a1}}</style>",
        '<text x="12" y="24" font-size="16" font-weight="600">CPU time per request; haproxy\'s best configuration = 1'
        "</text>",
        f'<text class="s" x="12" y="44">{_escaped(description)}</text>']
    top = 66
    bottom = top + step * len(loads)
    parts.append(
        f'<line class="l" x1="{left + unit}" y1="{top - 6}" x2="{left + unit}" y2="{bottom}" stroke-width="1.5" '
        'stroke-dasharray="4 3"/>')
    for index, load in enumerate(loads):
        y = top + index * step
        by_proxy = {row["proxy"]: row for row in found if row["load"] == load}
        title = next(iter(by_proxy.values()))["title"]
        parts.append(f'<text x="{left - 10}" y="{y + 20}" text-anchor="end">{_escaped(title)}</text>')
        for line, (proxy, label, kind) in enumerate(shown):
            row = by_proxy.get(proxy)
            if row is None:
                continue
            length = min(row["ratio"], 1.85) * unit
            at = y + 4 + line * (bar + 3)
            parts.append(f'<rect class="{kind}" x="{left}" y="{at}" width="{length:.1f}" height="{bar}" rx="2"/>')
            parts.append(
                f'<text class="s" x="{left + length + 6:.1f}" y="{at + 11}">{label} {row["ratio"]:.2f}</text>')
    parts.append(f'<text class="s" x="{left + unit}" y="{bottom + 16}" text-anchor="middle">haproxy</text>')
    parts.append("</svg>\n")
    with open(path, "w") as file:
        file.write("\n".join(parts))


def _escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

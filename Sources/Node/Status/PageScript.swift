// PageScript: the status page's script. Without it the page is whole, and loads itself again every two seconds; with it
// the node sends a new <main> each second and whenever something happens, and operators can act.
//
// It knows nothing of what the page says: it makes the old tree into the new one, node by node, so that focus, selection
// and what a screen reader has read stay. The token is kept for the tab and goes nowhere but into a header of requests
// to this node, which no other site can make a browser send.

enum PageScript {
    static let text = #"""
        "use strict";
        const byId = id => document.getElementById(id);
        document.documentElement.classList.add("live");

        /* Make `old` like `fresh`: attributes, then children. As many of the children stay as can stay in their order; none is
           moved, since whatever is moved loses the focus. */
        function morph(old, fresh) {
          for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
          for (const { name, value } of fresh.attributes)
            if (old.getAttribute(name) !== value) old.setAttribute(name, value);
          const now = [...old.childNodes], wanted = [...fresh.childNodes];
          const kinds = now.map(kind), wantedKinds = wanted.map(kind), staying = common(kinds, wantedKinds);
          for (let i = 0, j = 0; i < now.length || j < wanted.length; ) {
            if (i < now.length && j < wanted.length && kinds[i] === wantedKinds[j]) {
              if (now[i].nodeType === Node.ELEMENT_NODE) morph(now[i], wanted[j]);
              else if (now[i].data !== wanted[j].data) now[i].data = wanted[j].data;
              i++;
              j++;
            } else if (i < now.length && (j === wanted.length || staying[i + 1][j] > staying[i][j + 1])) now[i++].remove();
            else old.insertBefore(wanted[j++], now[i] ?? null);
          }
        }
        const kind = node => `${node.nodeName}#${node.id}`;
        /* [i][j]: how many of `now` from i on can stay for those of `wanted` from j on (longest common subsequence). */
        function common(now, wanted) {
          const lengths = Array.from({ length: now.length + 1 }, () => new Uint16Array(wanted.length + 1));
          for (let i = now.length - 1; i >= 0; i--)
            for (let j = wanted.length - 1; j >= 0; j--)
              lengths[i][j] = now[i] === wanted[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
          return lengths;
        }

        /* The node's word, as it comes; and how long it has not come. */
        let heard = performance.now();
        const source = new EventSource("live");
        source.addEventListener("main", event => {
          heard = performance.now();
          const fresh = new DOMParser().parseFromString(event.data, "text/html").querySelector("main");
          morph(document.querySelector("main"), fresh);
          document.title = fresh.dataset.title;
        });
        setInterval(() => {
          const seconds = Math.round((performance.now() - heard) / 1000);
          const stale = byId("stale");
          stale.hidden = seconds < 3;
          document.documentElement.classList.toggle("old", seconds >= 3);
          const text = `No word from this node for ${seconds} s. What you see below is old.`;
          if (!stale.hidden && stale.textContent !== text) stale.textContent = text;
        }, 500);

        /* What an operator may do: a button says what, a dialog asks whether, the answer is said aloud. */
        const dialog = byId("ask"), form = dialog.querySelector("form");
        let action = null;
        document.addEventListener("click", event => {
          const button = event.target.closest("button[data-act]");
          if (!button) return;
          action = { ...button.dataset };
          const subject = action.server || action.to;
          byId("ask-title").textContent = `${button.textContent.trim()}: ${subject}`;
          byId("ask-what").textContent = {
            drain: "It gets no new requests, from any node; those under way end.",
            ready: "It gets requests again when it is up.",
            maint: "It gets no requests, and its checks decide nothing.",
            weight: "Its share of the requests.",
            handover: "Leadership and VIP move there. No connection breaks where the gate keeps them.",
          }[action.act];
          form.elements.weight.value = action.weight || "";
          byId("ask-weight").hidden = form.elements.weight.disabled = action.act !== "weight";
          form.elements.token.value = sessionStorage.getItem("triad-token") || "";
          byId("ask-problem").textContent = "";
          dialog.showModal();
        });
        form.addEventListener("submit", async event => {
          if (event.submitter?.value === "cancel") return;
          event.preventDefault();
          const token = form.elements.token.value;
          const body = {};
          if (action.server) body.server = action.server;
          if (action.to) body.to = action.to;
          if (action.act === "weight") body.weight = Number(form.elements.weight.value);
          form.elements.go.disabled = true;
          let problem = "";
          try {
            const answer = await fetch(`admin/${action.act}`, {
              method: "POST",
              headers: { "Authorization": `Bearer ${token}`, "Content-Type": "application/json" },
              body: JSON.stringify(body),
            });
            const { ok, text } = await answer.json();
            if (ok) {
              sessionStorage.setItem("triad-token", token);
              byId("done").textContent = `${byId("ask-title").textContent}: ${text}`;
              setTimeout(() => { byId("done").textContent = ""; }, 8000);
              dialog.close();
            } else problem = text;
          } catch (error) {
            problem = `no answer from this node (${error.message}); the change may or may not have been made`;
          }
          form.elements.go.disabled = false;
          byId("ask-problem").textContent = problem;
        });
        """#
}

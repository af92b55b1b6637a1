"use strict";
// Keeps the page fresh: what has changed is changed in place, so that focus, scrolling, what is typed or selected and what
// is unfolded stay. Without this script the page says the same, and reloads itself.
(() => {
  const EVERY_MS = 5000;
  const UNSEEN_EVERY_MS = 60000; // behind other tabs, where its title is all that is seen
  const main = document.getElementById("main");
  const updated = document.getElementById("updated");
  const pause = document.getElementById("pause");
  const announce = document.getElementById("announce");
  const verdict = () => document.getElementById("verdict").dataset.word;
  const told = () => `${verdict()}: ${document.getElementById("headline").textContent}`;
  let isPaused = false;
  let said = told();
  let lookedAt = 0;

  function become(old, fresh) {
    if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return undefined;
    }
    for (const name of old.getAttributeNames()) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name); // unfolded by whoever reads it
    }
    for (const name of fresh.getAttributeNames()) {
      if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
    }
    const olds = [...old.childNodes], freshes = [...fresh.childNodes];
    olds.forEach((one, nth) => (nth < freshes.length ? become(one, freshes[nth]) : one.remove()));
    old.append(...freshes.slice(olds.length));
    return undefined;
  }

  function replace(old, fresh) {
    if (old.id === "charts" || old.outerHTML === fresh.outerHTML) return; // the charts are another script's
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const href = active?.getAttribute("href");
    become(old, fresh);
    // Rows change their order: the keyboard goes with the link that it is on.
    if (href && active.getAttribute("href") !== href) old.querySelector(`a[href="${CSS.escape(href)}"]`)?.focus();
  }

  function take(html) {
    const parsed = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html").querySelector("main");
    const now = parsed.querySelector("#verdict").dataset.now; // below, sections move from there to the page
    const fresh = [...parsed.children];
    const wanted = new Set(fresh.map((section) => section.id));
    for (const old of [...main.children]) if (!wanted.has(old.id)) old.remove();
    let last = null;
    for (const section of fresh) {
      const old = document.getElementById(section.id);
      if (old) replace(old, section);
      else if (last) last.after(section);
      else main.prepend(section);
      last = document.getElementById(section.id);
    }
    say(verdict(), told());
    return now;
  }

  function say(word, words) {
    document.title = document.title.replace(/^[^·]*/, `${word} `);
    if (words !== said) announce.textContent = words;
    said = words;
  }

  async function look() {
    if (isPaused || (document.hidden && Date.now() - lookedAt < UNSEEN_EVERY_MS)) return;
    lookedAt = Date.now();
    try {
      const answer = await fetch(main.dataset.fragment, { cache: "no-store", signal: AbortSignal.timeout(EVERY_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const now = take(await answer.text());
      updated.textContent = `as of ${now} UTC`;
      main.classList.remove("gone");
    } catch {
      updated.textContent = "the daemon does not answer; all here is older";
      main.classList.add("gone");
      say("no answer", "the daemon does not answer");
    }
  }

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) look();
  });
  document.addEventListener("visibilitychange", look);
  setInterval(look, EVERY_MS);
})();

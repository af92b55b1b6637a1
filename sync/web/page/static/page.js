"use strict";
// Keeps the page fresh: sections whose markup has changed are replaced one by one, so that focus, scrolling and what is
// unfolded stay. Without this script the page says the same, and reloads itself.
(() => {
  const EVERY_MS = 5000;
  const main = document.getElementById("main");
  const updated = document.getElementById("updated");
  const pause = document.getElementById("pause");
  const announce = document.getElementById("announce");
  let isPaused = false;

  const key = (section) => section.id;

  function replace(old, fresh) {
    // The charts are another script's, and whoever stands in a section with the keyboard keeps the place.
    if (old.innerHTML === fresh.innerHTML && old.className === fresh.className) return;
    if (old.id === "charts" || old.contains(document.activeElement)) return;
    for (const open of old.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector(`#${open.id}`);
      if (same) same.open = true;
    }
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = scrolled[number] || 0; });
  }

  function take(html) {
    const parsed = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html").querySelector("main");
    const now = parsed.querySelector("#verdict").dataset.now; // below, sections move from there to the page
    const before = document.getElementById("headline")?.textContent;
    const fresh = [...parsed.children];
    const wanted = new Set(fresh.map(key));
    for (const old of [...main.children]) if (!wanted.has(key(old))) old.remove();
    let last = null;
    for (const section of fresh) {
      const old = document.getElementById(section.id);
      if (old) replace(old, section);
      else if (last) last.after(section);
      else main.prepend(section);
      last = document.getElementById(section.id);
    }
    const headline = document.getElementById("headline")?.textContent;
    const word = document.getElementById("verdict")?.dataset.word;
    if (headline !== before) {
      announce.textContent = `${word}: ${headline}`;
      document.title = document.title.replace(/^[^·]*/, `${word} `);
    }
    return now;
  }

  async function look() {
    if (isPaused || document.hidden) return;
    try {
      const answer = await fetch(main.dataset.fragment, { cache: "no-store", signal: AbortSignal.timeout(EVERY_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const now = take(await answer.text());
      updated.textContent = `as of ${now} UTC`;
      main.classList.remove("gone");
    } catch {
      updated.textContent = "the daemon does not answer; all here is older";
      main.classList.add("gone");
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

// Keeps [data-fragment] up to date by fetching it again; says so when the server is gone.
const INTERVAL_MS = 1000;
const PATIENCE_MS = 4000;
const STALE_AFTER_MS = 3500;

const bar = document.querySelector("[data-source]");
const target = document.querySelector("[data-fragment]");

function start() {
  const state = bar.querySelector("[data-state]");
  const button = bar.querySelector("[data-pause]");
  let paused = false;
  let freshAt = Date.now();
  let shown = target.innerHTML;
  let message = "";

  function say(text, stale) {
    if (text !== message) {
      message = text;
      state.textContent = text;
    }
    bar.toggleAttribute("data-stale", stale);
    target.toggleAttribute("data-stale", stale);
  }

  function report(problem) {
    const age = Math.round((Date.now() - freshAt) / 1000);
    if (paused) {
      say("Paused", false);
    } else if (problem && Date.now() - freshAt > STALE_AFTER_MS) {
      // Steps of five seconds: a screen reader should not speak every second.
      say(`Data is ${age < 5 ? age : age - (age % 5)} s old: ${problem}`, true);
    } else if (!problem) {
      say("Live", false);
    }
  }

  function replace(html) {
    if (html === shown) {
      return;
    }
    shown = html;
    const focused = document.activeElement?.getAttribute("href");
    const inside = target.contains(document.activeElement);
    const parsed = new DOMParser().parseFromString(html, "text/html");
    target.replaceChildren(...parsed.body.childNodes);
    if (inside && focused) {
      target.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    }
  }

  async function refresh() {
    if (paused || document.hidden) {
      return;
    }
    try {
      const answer = await fetch(bar.dataset.source, {
        headers: { Accept: "text/html" },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (!answer.ok) {
        report(answer.status === 503 ? "the database is away" : `error ${answer.status}`);
        return;
      }
      const html = await answer.text();
      freshAt = Date.now();
      if (!paused) {
        replace(html);
      }
      report("");
    } catch {
      report("the server does not answer");
    }
  }

  async function loop() {
    await refresh();
    setTimeout(loop, INTERVAL_MS);
  }

  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    report("");
  });
  bar.hidden = false;
  say("Live", false);
  setTimeout(loop, INTERVAL_MS);
}

if (bar && target) {
  start();
}

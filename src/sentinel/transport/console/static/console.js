"use strict";
// What every page does: forms bring the session's token, times are the viewer's, and everything has a key.

const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["x-csrf-token"] = token;
  if (event.detail.ctx.sourceElement?.hasAttribute("data-by-itself")) event.detail.ctx.request.headers["x-by-itself"] = "1";
});

// times
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function showTimes(within) {
  for (const one of within.querySelectorAll("time[datetime]:not([data-shown])")) {
    const at = new Date(one.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    one.textContent = one.hasAttribute("data-day") ? day.format(at)
      : isToday ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
    one.title = `${exact.format(at)} (${one.dateTime})`;
    one.dataset.shown = "";
  }
}
showTimes(document);
new MutationObserver(() => showTimes(document)).observe(document.body, { childList: true, subtree: true });

// theme
for (const button of document.querySelectorAll("[data-theme-switch]")) {
  button.addEventListener("click", () => {
    const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("theme", isDark ? "light" : "dark");
    document.dispatchEvent(new Event("themed"));
  });
}

// dialogs
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens)?.showModal();
  if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
  const row = event.target.closest("tr.goes");
  if (row && !event.target.closest("a, button, input, select") && !String(getSelection())) row.querySelector("a")?.click();
});

// what may be undone for a moment
for (const one of document.querySelectorAll("[data-vanishes]")) {
  setTimeout(() => one.remove(), Number(one.dataset.vanishes) * 1000);
}

// keys
let after = "";
const rows = () => [...document.querySelectorAll("tr.goes")];

function choose(step) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((one) => one.getAttribute("aria-selected") === "true");
  const next = Math.min(Math.max(now + step, 0), all.length - 1);
  all.forEach((one, n) => one.setAttribute("aria-selected", String(n === next)));
  all[next].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape" && isTyping) event.target.blur();
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (after === "g") {
    after = "";
    document.documentElement.classList.remove("show-keys");
    const link = document.querySelector(`a.to[data-key="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  const byKey = document.querySelector(`[data-hotkey="${CSS.escape(event.key)}"]`);
  const focusKey = document.querySelector(`[data-focus-key="${CSS.escape(event.key)}"]`);
  if (event.key === "g") { after = "g"; document.documentElement.classList.add("show-keys"); }
  else if (event.key === "?") document.getElementById("keys")?.showModal();
  else if (event.key === "/") {
    const field = document.querySelector("[data-search]");
    if (field) field.focus(); else document.querySelector('a.to[href="/search"]')?.click();
  } else if (byKey && !(event.key === " " && event.target.closest("button, summary"))) byKey.click();
  else if (focusKey) focusKey.focus();
  else if (event.key === "j") choose(1);
  else if (event.key === "k") choose(-1);
  else if (event.key === "Enter" && !event.target.closest("a, button, summary")) {
    document.querySelector('tr.goes[aria-selected="true"] a')?.click();
  } else return;
  event.preventDefault();
});

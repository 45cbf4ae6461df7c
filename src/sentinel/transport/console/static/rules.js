"use strict";
// Rules: words are completed as one writes, what is written is tried, files are read, and plots are drawn where they appear.

// completion: a list under the field; arrows choose, Tab or Enter takes, Esc closes it
const MOST_OFFERED = 8;
const WAIT_MS = 300;

function completes(field) {
  const words = [...document.querySelectorAll(`#${field.dataset.completes} [data-word]`)]
    .map((row) => ({ text: row.dataset.word, what: row.lastElementChild.textContent }));
  const list = document.createElement("ul");
  list.className = "offered";
  list.id = `${field.id}-offered`;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Words that fit");
  list.hidden = true;
  field.after(list);
  field.setAttribute("aria-controls", list.id);
  field.setAttribute("aria-autocomplete", "list");
  let offered = [];
  let chosen = 0;

  const begun = () => /[`"\p{L}_][\p{L}\p{N}_("]*$/u.exec(field.value.slice(0, field.selectionStart))?.[0] ?? "";

  function close() { list.hidden = true; offered = []; field.removeAttribute("aria-activedescendant"); }

  function show() {
    list.replaceChildren(...offered.map((one, n) => {
      const item = document.createElement("li");
      item.id = `${list.id}-${n}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(n === chosen));
      const word = document.createElement("span");
      word.className = "mono";
      word.textContent = one.text;
      const what = document.createElement("span");
      what.className = "soft small";
      what.textContent = one.what;
      item.append(word, what);
      item.addEventListener("mousedown", (event) => { event.preventDefault(); chosen = n; take(); });
      return item;
    }));
    list.hidden = offered.length === 0;
    if (offered.length) field.setAttribute("aria-activedescendant", `${list.id}-${chosen}`); else close();
  }

  function look() {
    const start = begun().toLowerCase();
    if (!/\p{L}/u.test(start) || field.selectionStart !== field.selectionEnd) { close(); return; }
    const fits = words.filter((one) => one.text.toLowerCase() !== start && one.text.toLowerCase().includes(start));
    fits.sort((a, b) => Number(b.text.toLowerCase().startsWith(start)) - Number(a.text.toLowerCase().startsWith(start)));
    offered = fits.slice(0, MOST_OFFERED);
    chosen = 0;
    show();
  }

  function take() {
    const end = field.selectionStart;
    field.setRangeText(offered[chosen].text, end - begun().length, end, "end");
    close();
    field.dispatchEvent(new Event("input", { bubbles: true }));
    close();
    field.focus();
  }

  field.addEventListener("input", (event) => { if (event.isTrusted) look(); });
  field.addEventListener("blur", close);
  field.addEventListener("click", close);
  field.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : offered.length - 1)) % offered.length;
      show();
    } else if (event.key === "Tab" || event.key === "Enter") take();
    else if (event.key === "Escape") { close(); event.stopPropagation(); }
    else return;
    event.preventDefault();
  });
}
document.querySelectorAll("[data-completes]").forEach(completes);

// trying: a moment after the last change; an answer to what was written before is not shown
const tried = document.getElementById("tried");
let waiting = 0;

function tryLater() {
  clearTimeout(waiting);
  waiting = setTimeout(() => tried.dispatchEvent(new Event("tried")), WAIT_MS);
}
if (tried) {
  for (const field of document.querySelectorAll("[data-tries]")) field.addEventListener("input", tryLater);
  const main = document.querySelector("#when, #text");
  if (main.value.trim()) tryLater();
  new MutationObserver(() => main.setAttribute("aria-invalid", String(tried.querySelector("[data-fault]") !== null)))
    .observe(tried, { childList: true, subtree: true });
  tried.addEventListener("click", (event) => {
    const place = event.target.closest("[data-fault]")?.dataset.place;
    if (place !== undefined && main.id === "when") { main.focus(); main.setSelectionRange(Number(place), Number(place)); }
  });
}

// files: what is in one becomes the text of a field, which is what is sent
for (const input of document.querySelectorAll("[data-reads]")) {
  input.addEventListener("change", async () => {
    if (input.files[0]) document.getElementById(input.dataset.reads).value = await input.files[0].text();
  });
}

// plots
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const wholeOf = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const dayOf = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const plots = new Map();

function plot(box) {
  const { days, lines } = JSON.parse(box.dataset.plot);
  const axis = { stroke: () => colourOf("soft"), font: "11px system-ui", grid: { stroke: () => colourOf("line"), width: 1 }, ticks: { show: false } };
  const made = new uPlot({
    width: box.clientWidth, height: box.clientHeight || 168, padding: [8, 8, 0, 20], legend: { show: false },
    cursor: { sync: { key: "rules" }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
    tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
    axes: [{ ...axis, grid: { show: false }, size: 24, space: 70, incrs: [86400, 172800, 604800, 2592000], values: (_, at) => at.map((s) => dayOf.format(new Date(s * 1000))) },
      { ...axis, side: 1, size: 52, space: 38, values: (_, at) => at.map((v) => (Number.isInteger(v) ? wholeOf.format(v) : "")) }],
    series: [{}, ...lines.map((one) => ({ label: one.label, stroke: () => colourOf(one.colour), width: 1.6, points: { show: true, size: 4 } }))],
  }, [days.map((day) => Date.parse(day) / 1000), ...lines.map((one) => one.values)], box);
  plots.set(box, made);
  new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: box.clientHeight || 168 })).observe(box);
}

function plotNew() {
  for (const box of plots.keys()) if (!box.isConnected) { plots.get(box).destroy(); plots.delete(box); }
  for (const box of document.querySelectorAll("[data-plot]")) if (!plots.has(box)) plot(box);
}
if (typeof uPlot !== "undefined") {
  plotNew();
  new MutationObserver(plotNew).observe(document.getElementById("main"), { childList: true, subtree: true });
  document.addEventListener("themed", () => plots.forEach((made) => made.redraw(false)));
}

"use strict";
// Thresholds: the curve is asked for once; what any thresholds do follows from it, as `ScoreCurve.consequences` has it.

const explorer = document.getElementById("explorer");
const at = (name) => document.querySelector(`[data-at="${name}"]`);
const measured = document.getElementById("measured");
const apply = document.getElementById("apply");
const sliders = [...document.querySelectorAll("[data-moves]")];
const ORDER = ["challenge", "review", "block"];
const now = JSON.parse(explorer.dataset.now) ?? JSON.parse(explorer.dataset.own);
const own = JSON.parse(explorer.dataset.own);
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const few = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const written = (score) => !isThere(score) ? "none" : score > 0 && score < 0.01 ? score.toFixed(4) : score.toFixed(3);
let curve, costs, chosen, cheapest, costPlot, qualityPlot;

// what thresholds do
function place(score) { // of the first point that is not below it
  let low = 0, high = curve.points.length;
  while (low < high) { const middle = (low + high) >> 1; if (curve.points[middle] < score) low = middle + 1; else high = middle; }
  return low;
}

function above(score) {
  const n = isThere(score) ? place(score) : curve.points.length;
  return n < curve.points.length ? [curve.frauds[n], curve.others[n], curve.fraud_amounts[n]] : [0, 0, 0];
}

function costOf(action, frauds, others, amounts) {
  const missed = costs.missed_fraud_share * amounts + costs.missed_fraud * frauds;
  if (action === 0) return missed;
  if (action === 1) return costs.challenge * (frauds + others) + (1 - costs.challenge_stops) * missed + costs.challenge_lost * costs.false_alarm * others;
  return action === 2 ? costs.review * (frauds + others) : costs.false_alarm * others;
}

function consequences(thresholds) {
  const alarm = thresholds.challenge ?? thresholds.review;
  const steps = [above(0), above(alarm), above(thresholds.review), above(thresholds.block), [0, 0, 0]];
  const bands = steps.slice(0, 4).map((one, n) => one.map((value, i) => value - steps[n + 1][i]));
  const cost = bands.reduce((sum, band, action) => sum + costOf(action, ...band), 0);
  const [frauds, others] = steps[0];
  const [caught, disturbed] = steps[1];
  const load = bands.map(([a, b]) => (a + b) * curve.a_day);
  return {
    cost_a_day: cost / curve.days, saved_a_day: (costOf(0, ...steps[0]) - cost) / curve.days,
    precision: caught + disturbed ? caught / (caught + disturbed) : null, recall: frauds ? caught / frauds : null,
    disturbed: others ? disturbed / others : null, challenges_a_day: load[1], reviews_a_day: load[2], blocks_a_day: load[3],
  };
}

// one moves, the milder and the harsher give way
function moved(thresholds, name, score) {
  const found = { ...thresholds, [name]: score };
  for (const other of ORDER) {
    if (other === name || !isThere(found[other])) continue;
    found[other] = ORDER.indexOf(other) < ORDER.indexOf(name) ? Math.min(found[other], score) : Math.max(found[other], score);
  }
  return found;
}

function best() { // by turns, until no single move is cheaper
  let found = chosen, cost = consequences(found).cost_a_day;
  for (let turn = 0; turn < 8; turn++) {
    const before = cost;
    for (const { dataset: { moves } } of sliders) {
      for (const point of curve.points) {
        const tried = moved(found, moves, point), itsCost = consequences(tried).cost_a_day;
        if (itsCost < cost - 1e-9) { found = tried; cost = itsCost; }
      }
    }
    if (cost === before) break;
  }
  return found;
}

// what is shown
const KINDS = { cost_a_day: money, saved_a_day: money, challenges_a_day: few, reviews_a_day: few, blocks_a_day: few };

function show() {
  const so = consequences(chosen), was = consequences(now);
  for (const [name, value] of Object.entries(so)) {
    if (!at(name)) continue;
    const text = (one) => !isThere(one) ? "–" : KINDS[name] ? KINDS[name].format(one) : percent(one, 2);
    at(name).textContent = text(value);
    at(`${name}-now`).textContent = text(was[name]);
    const change = isThere(value) && isThere(was[name]) ? value - was[name] : null;
    at(`${name}-change`).textContent = change === null ? "–" : Math.abs(change) < 1e-9 ? "same" : `${change > 0 ? "+" : "−"}${text(Math.abs(change))}`;
  }
  for (const slider of sliders) {
    const name = slider.dataset.moves, shown = written(chosen[name]);
    slider.value = String(isThere(chosen[name]) ? place(chosen[name]) : slider.max);
    slider.setAttribute("aria-valuetext", shown);
    at(`${name}-at`).textContent = shown;
    at(`${name}-was`).textContent = `now ${written(now[name])}`;
    document.querySelector(`[data-sends="${name}"]`).value = isThere(chosen[name]) ? String(chosen[name]) : "";
  }
  const isSame = ORDER.every((one) => (chosen[one] ?? null) === (now[one] ?? null));
  if (apply) apply.disabled = isSame;
  const capacity = Number(document.getElementById("capacity").value.replace(",", "")) || null;
  document.getElementById("over").textContent = capacity && so.reviews_a_day > capacity ? `${few.format(so.reviews_a_day - capacity)} reviews a day more than you can do.` : "";
  at("headline").textContent = `of ${explorer.dataset.version}: ${isSame ? "as it is now" : `${money.format(Math.abs(so.cost_a_day - was.cost_a_day))} a day ${so.cost_a_day <= was.cost_a_day ? "cheaper" : "dearer"} than now`}`;
  explorer.dataset.shown = String(Number(explorer.dataset.shown || 0) + 1);
  drawPlots();
}

function drawPlots() {
  const points = curve.points.filter((one) => one > 0);
  const rows = points.map((one) => consequences(moved(chosen, "review", one)));
  const axes = [{ values: (_, all) => all.map((one) => one === null ? "" : String(Number(one.toPrecision(2)))) }, {}];
  const x = { time: false, distr: 3 };
  const marks = (u) => {
    const left = u.valToPos(Math.max(chosen.review, points[0]), "x", true);
    u.ctx.save();
    u.ctx.strokeStyle = colour("block");
    u.ctx.setLineDash([4, 4]);
    u.ctx.beginPath();
    u.ctx.moveTo(left, u.bbox.top);
    u.ctx.lineTo(left, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  };
  const hooks = { draw: [marks] };
  costPlot ??= chart(document.getElementById("chart-cost"), [{ label: "cost a day", colour: "accent", step: true }], { scales: { x, y: { range: (_, __, most) => [0, most * 1.1 || 1] } }, axes, hooks });
  qualityPlot ??= chart(document.getElementById("chart-quality"), [{ label: "right", colour: "accent", step: true }, { label: "found", colour: "review", step: true }], { scales: { x, y: { range: () => [0, 1.02] } }, axes: [axes[0], { values: (_, all) => all.map((one) => `${Math.round(one * 100)} %`) }], hooks });
  costPlot.setData([points, rows.map((one) => one.cost_a_day)]);
  qualityPlot.setData([points, rows.map((one) => one.precision), rows.map((one) => one.recall)]);
}

// what moves
for (const slider of sliders) {
  slider.addEventListener("input", () => { chosen = moved(chosen, slider.dataset.moves, curve.points[Number(slider.value)] ?? 1); show(); });
}
for (const field of document.querySelectorAll("[data-cost]")) {
  field.addEventListener("input", () => {
    const value = Number(field.value), isGood = field.value.trim() !== "" && value >= 0;
    field.setAttribute("aria-invalid", String(!isGood));
    if (isGood) { costs[field.dataset.cost] = value; show(); }
  });
}
document.getElementById("capacity").addEventListener("input", show);
document.getElementById("as-now").addEventListener("click", () => { chosen = { ...now }; show(); });
document.getElementById("as-trained").addEventListener("click", () => { chosen = { ...own }; show(); });
document.getElementById("cheapest").addEventListener("click", () => { chosen = best(); show(); });

function tell(text, kind) { measured.textContent = text; measured.className = `note ${kind}`; }

async function begin() {
  const answer = await fetch(`/models/thresholds/curve?period=${explorer.dataset.period}`, { headers: { "hx-request": "true" } });
  if (!answer.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    tell(page.querySelector("p")?.textContent ?? "This cannot be counted at the moment; load the page again", "careful");
    return;
  }
  const found = await answer.json();
  ({ curve, costs } = found);
  chosen = { ...now };
  for (const slider of sliders) slider.max = String(curve.points.length - 1);
  for (const field of document.querySelectorAll("[data-cost]")) field.value = String(costs[field.dataset.cost]);
  document.getElementById("explored").hidden = false;
  tell(`On ${found.measured_on}, ${few.format(curve.days)} days with ${whole.format(curve.frauds[0])} frauds and ${whole.format(curve.others[0])} others.`, "");
  show();
}

begin().catch(() => tell("The console does not answer; load the page again.", "bad"));

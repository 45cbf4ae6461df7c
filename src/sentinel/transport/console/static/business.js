"use strict";
// Business: the charts over the days that were asked for. What is not mature yet is drawn in dashes.

const root = document.getElementById("business");
const series = JSON.parse(root.dataset.series);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const dayName = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...(series.each === "month" ? { month: "short", year: "2-digit" } : { day: "numeric", month: "short" }) });
const charts = [];

// A line is two: what is mature, and from the last mature point on what is not.
const firstOpen = series.mature.indexOf(false);
const whole = (values) => values.map((value, n) => (firstOpen < 0 || n < firstOpen ? value : null));
const early = (values) => values.map((value, n) => (firstOpen >= 0 && n >= firstOpen - 1 ? value : null));

// A day between days without a figure has no line to be on: it is a point.
function alone(plot, n, all) {
  const isOn = (at) => (plot.data[n][at] ?? null) !== null;
  return plot.data[0].flatMap((_, at) => (isOn(at) && (all || !(isOn(at - 1) || isOn(at + 1))) ? [at] : []));
}

function draw(id, lines) {
  const box = document.getElementById(`chart-${id}`);
  if (!box) return;
  const axis = { stroke: () => colour("soft"), font: "11px system-ui", grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false } };
  const y = (scale, side, unit) => ({ ...axis, scale, side, size: 54, space: 34, grid: { show: side === 1, stroke: () => colour("line"), width: 1 }, values: (_, at) => at.map((v) => compact.format(v) + unit) });
  const scales = { x: { time: true } };
  for (const one of lines) scales[one.scale] = { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] };
  const made = new uPlot({
    width: box.clientWidth, height: box.clientHeight, padding: [8, 4, 0, 18], tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { sync: { key: "business" }, drag: { x: false, y: false }, points: { size: 6 } }, legend: { show: false }, scales,
    axes: [{ ...axis, grid: { show: false }, size: 24, space: 70, values: (_, at) => at.map((s) => dayName.format(new Date(s * 1000))) }, ...lines.filter((one, n) => lines.findIndex((other) => other.scale === one.scale) === n).map((one, n) => y(one.scale, n === 0 ? 1 : 3, one.unit))],
    series: [{}, ...lines.flatMap((one) => [{}, { dash: [4, 3] }].map((more) => ({ label: one.label, scale: one.scale, stroke: () => colour(one.colour), width: 1.6, spanGaps: false, points: { show: series.at.length < 3, size: 5, filter: alone }, ...more })))],
  }, [series.at, ...lines.flatMap((one) => [whole(series[one.of]), early(series[one.of])])], box);
  charts.push({ made, box });
}

draw("fraud", [{ of: "fraud", label: "fraud", colour: "block", scale: "y", unit: "" }]);
draw("approved", [{ of: "approved", label: "approved", colour: "approve", scale: "y", unit: " %" }]);
draw("money", [{ of: "saved", label: "saved", colour: "approve", scale: "y", unit: "" }, { of: "lost", label: "lost", colour: "block", scale: "y", unit: "" }]);
draw("disturbed", [{ of: "disturbed", label: "disturbed", colour: "accent", scale: "y", unit: " %" }, { of: "review", label: "reviews", colour: "review", scale: "n", unit: "" }]);
new ResizeObserver(() => charts.forEach(({ made, box }) => made.setSize({ width: box.clientWidth, height: box.clientHeight }))).observe(root);
document.addEventListener("themed", () => charts.forEach(({ made }) => made.redraw(false)));
root.dataset.drawn = String(charts.length);

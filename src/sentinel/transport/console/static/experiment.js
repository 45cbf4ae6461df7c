"use strict";
// An experiment: the interval of a difference over time, and sliders that say their share.

for (const slider of document.querySelectorAll("[data-says]")) {
  const says = document.getElementById(slider.dataset.says);
  slider.addEventListener("input", () => { says.textContent = `${slider.value} %`; });
}

const box = document.getElementById("trail");
if (box) {
  const metric = document.getElementById("metric");
  const said = document.getElementById("trail-said");
  const days = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const times = new Intl.DateTimeFormat(undefined, { timeStyle: "short", hourCycle: "h23" });
  const isCost = () => metric.value === "mean_cost";
  const written = (value) => isCost() ? value.toFixed(2) : `${Number((value * 100).toPrecision(2))} %`;
  let trail = null;
  const plot = chart(box, [
    { label: "difference", colour: "accent" }, { label: "at least", colour: "edge", width: 1 },
    { label: "at most", colour: "edge", width: 1 }, { label: "none", colour: "block", dash: [4, 4], width: 1 },
  ], {
    bands: [{ series: [3, 2], fill: () => colour("accent-soft") }],
    scales: { x: { time: true }, y: { range: (_, least, most) => { const reach = Math.max(Math.abs(least ?? 0), Math.abs(most ?? 0)) * 1.15 || 1; return [-reach, reach]; } } },
    axes: [{ values: (_, at) => at.map((s) => (trail && trail.at_us.at(-1) - trail.at_us[0] > 86_400e6 ? days : times).format(s * 1000)) }, { size: 64, values: (_, at) => at.map(written) }],
  });

  const show = () => {
    if (!trail) return;
    const found = trail.metrics[metric.value];
    plot.setData([trail.at_us.map((us) => us / 1e6), found.difference, found.low, found.high, trail.at_us.map(() => 0)]);
    said.textContent = trail.at_us.length ? `${trail.at_us.length} points, the newest of ${whole.format(trail.decisions_a.at(-1) + trail.decisions_b.at(-1))} transactions.` : "Nothing was decided yet.";
    box.dataset.points = String(trail.at_us.length);
  };

  const load = async () => {
    if (document.hidden) return;
    const answer = await fetch("/models/experiment/trail", { headers: { "x-by-itself": "1" } });
    if (!answer.ok) { said.textContent = "The plot cannot be loaded at the moment; it is tried again."; return; }
    trail = await answer.json();
    show();
  };

  const again = () => load().catch(() => { said.textContent = "The console does not answer; it is tried again."; });
  metric.addEventListener("change", show);
  again();
  setInterval(again, 10_000);
}

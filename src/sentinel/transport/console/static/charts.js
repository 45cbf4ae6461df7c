"use strict";
// Charts: drawn in one way on every page, in the colours of the theme; and how numbers are written.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const isThere = (value) => value !== null && value !== undefined;
const percent = (value, digits) => !isThere(value) || !Number.isFinite(value) ? "–" : `${value ? (value * 100).toFixed(digits ?? (Math.abs(value) < 0.1 ? 2 : 1)) : 0} %`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const short = (value) => value >= 1000 ? `${whole.format(value / 1000)}k` : String(Number(value.toPrecision(3)));
const drawn = [];

// `lines`: {label, colour, step, dash, points}; `more` goes to uPlot as it is, over what is usual here.
function chart(box, lines, more = {}) {
  const axis = { stroke: () => colour("soft"), font: "11px system-ui", grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false } };
  const [across, upwards] = more.axes ?? [{}, {}];
  const made = new uPlot({
    width: box.clientWidth, height: box.clientHeight, padding: [8, 4, 0, 18], legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    ...more,
    axes: [{ ...axis, grid: { show: false }, size: 24, space: 90, ...across }, { ...axis, side: 1, size: 52, space: 38, values: (_, at) => at.map(short), ...upwards }],
    series: [{}, ...lines.map((one) => ({
      label: one.label, stroke: () => one.colour ? colour(one.colour) : "transparent", width: one.width ?? 1.6, dash: one.dash,
      scale: one.scale ?? "y", spanGaps: false, points: { show: one.points ?? false, size: 5 }, paths: one.step ? uPlot.paths.stepped({ align: -1 }) : undefined,
    }))],
  }, [[], ...lines.map(() => [])], box);
  drawn.push({ made, box });
  new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: box.clientHeight })).observe(box);
  return made;
}

document.addEventListener("themed", () => drawn.forEach(({ made }) => made.redraw(false)));

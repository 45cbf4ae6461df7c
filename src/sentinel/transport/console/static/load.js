"use strict";
// The load test: asked for twice a second while it runs.

const place = (name) => document.querySelector(`[data-at="${name}"]`);
const put = (name, text) => { place(name).textContent = text; };
const ms = (value) => !isThere(value) ? "–" : value >= 10 ? value.toFixed(0) : value.toFixed(1);
const root = document.getElementById("load");
const begin = document.getElementById("begin");
const stop = document.getElementById("stop");

for (const slider of document.querySelectorAll("[data-says]")) {
  const says = document.getElementById(slider.dataset.says);
  const say = () => { says.textContent = slider.value; };
  slider.addEventListener("input", say);
  say();
}

const axes = [{ values: (_, at) => at.map((one) => `${one} s`) }, {}];
const scales = { x: { time: false }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } };
const latency = chart(document.getElementById("chart-load-latency"), [{ label: "p50", colour: "accent" }, { label: "p99", colour: "review" }], { axes, scales });
const rate = chart(document.getElementById("chart-load-rate"), [{ label: "answered", colour: "accent", step: true }], { axes, scales });

function show(state) {
  const { series } = state;
  put("sent", whole.format(state.sent));
  put("sent-beside", `${state.actual_rate.toFixed(1)} a second of ${state.rate}`);
  put("received", whole.format(state.received));
  const mix = Object.entries(state.actions).map(([name, n]) => `${name} ${whole.format(n)}`).join(", ");
  put("received-beside", state.in_flight ? `${whole.format(state.in_flight)} on their way` : mix || "none");
  put("latency", `${ms(state.p50)} / ${ms(state.p95)} / ${ms(state.p99)}`);
  put("latency-beside", `${ms(state.average)} on average`);
  put("errors", whole.format(state.errors + state.unanswered));
  put("errors-beside", state.said[0] ?? (state.unanswered ? `${whole.format(state.unanswered)} not answered in time` : "none"));
  put("headline", state.is_over ? `${state.why}: ${whole.format(state.received)} of ${whole.format(state.sent)} answered, 99 of 100 within ${ms(state.p99)} ms` : `of ${state.who}, ${Math.min(state.elapsed_s, state.seconds).toFixed(0)} of ${state.seconds} s`);
  const until = state.is_over ? series.at.length : Math.min(Math.ceil(state.elapsed_s), series.at.length);
  const seen = (values) => values.map((one, n) => n < until ? one : null);
  latency.setData([series.at, seen(series.p50), seen(series.p99)]);
  rate.setData([series.at, seen(series.answered)]);
  begin.disabled = !state.is_over;
  stop.disabled = state.is_over;
  root.dataset.over = String(state.is_over);
  const body = document.querySelector("#load-table tbody");
  body.replaceChildren(...series.at.slice(0, until).map((second, n) => {
    const row = document.createElement("tr");
    for (const text of [`${second} s`, whole.format(series.answered[n]), ms(series.p50[n]), ms(series.p99[n])]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (row.childElementCount) cell.className = "num";
      row.append(cell);
    }
    return row;
  }));
}

async function look() {
  const answer = await fetch("/try/load/state", { headers: { "x-by-itself": "1" } });
  if (answer.redirected || !answer.ok) { location.reload(); return; }
  const state = await answer.json();
  if (state) show(state);
  if (state && !state.is_over) setTimeout(again, 500);
}

function again() { look().catch(() => { put("headline", "the console does not answer; it is asked again"); setTimeout(again, 2_000); }); }
again();

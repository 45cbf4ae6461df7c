"use strict";
// Live: one stream of events, once a second; figures, charts and the table that says the same. It stops out of sight.

const root = document.getElementById("live");
const range = Number(root.dataset.range);
const place = (name) => document.querySelector(`[data-at="${name}"]`);
const put = (name, text) => { const at = place(name); if (at && at.textContent !== text) at.textContent = text; };
const rate = (value) => !isThere(value) ? "–" : value >= 100 ? whole.format(value) : value.toFixed(value >= 10 ? 0 : 1);
const ms = (value) => !isThere(value) ? "–" : value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
const plural = (n, one, many) => `${whole.format(n)} ${n === 1 ? one : many}`;
const ACTIONS = ["approve", "challenge", "review", "block"];

// charts
const charts = [];
const twoDigits = (n) => String(n).padStart(2, "0");
const dayOf = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });
const isOfDays = range > 86400;
const onClock = (s) => { if (isOfDays) return dayOf.format(new Date(s * 1000)); const at = new Date(s * 1000); return `${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}${range <= 60 ? ":" + twoDigits(at.getSeconds()) : ""}`; };

function draw(id, lines) {
  const box = document.getElementById(id);
  if (!box) return; // what days do not keep
  const made = chart(box, lines.map((one) => ({ ...one, points: isOfDays })), {
    cursor: { sync: { key: "live" }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
    axes: [{ values: (_, at) => at.map(onClock), ...(isOfDays ? { incrs: [86400, 172800, 432000, 864000] } : {}) }, {}],
    ...(isOfDays ? { tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC") } : {}),
  });
  charts.push({ made, lines });
}

draw("chart-rate", [{ name: "rate", label: "decisions", colour: "accent" }]);
draw("chart-latency", [{ name: "p50", label: "half", colour: "accent" }, { name: "p99", label: "99 of 100", colour: "review" }, { name: "p999", label: "999 of 1,000", colour: "block" }]);
draw("chart-actions", ["challenge", "review", "block"].map((one) => ({ name: one, label: one, colour: one })));

function showSeries(series) {
  for (const { made, lines } of charts) made.setData([series.at, ...lines.map((one) => series[one.name])]);
  const body = document.querySelector("#as-table tbody");
  if (!body.closest("details").open) return;
  body.replaceChildren(...series.at.map((at, n) => {
    const row = document.createElement("tr");
    const much = (value) => isOfDays && isThere(value) ? whole.format(value) : rate(value);
    for (const text of [onClock(at), much(series.rate[n]), ms(series.p50[n]), ms(series.p99[n]), ...ACTIONS.map((one) => much(series[one][n]))]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (row.childElementCount) cell.className = "num";
      row.append(cell);
    }
    return row;
  }).reverse());
}

// figures
const disturbed = (point) => point && point.rate ? (point.challenge + point.review + point.block) / point.rate : null;

function against(now, usual, what) {
  if (!isThere(now) || !usual) return `no comparison yet`;
  const change = now / usual - 1;
  return `${change >= 0 ? "+" : "−"}${Math.abs(change * 100).toFixed(0)} % against ${what}`;
}

function state(name, text, kind) {
  const at = place(name);
  if (!at) return;
  at.textContent = text;
  at.className = `tag ${kind}`;
}

function lasting(seconds) {
  return seconds >= 3600 ? "the last hour" : seconds >= 120 ? `the last ${Math.round(seconds / 60)} minutes` : `the last ${Math.round(seconds)} s`;
}

function showNow(news) {
  const { now, minute, hour, state: found, models, totals, total } = news;
  const usual = lasting(news.hour_s);
  put("rate", rate(now.rate));
  put("rate-beside", now.rate ? against(now.rate, hour.rate, usual) : `${rate(hour.rate)} in ${usual}`);
  put("latency", `${ms(minute.p50)} / ${ms(minute.p99)} / ${ms(minute.p999)}`);
  put("disturbed", percent(disturbed(minute)));
  put("disturbed-beside", `${percent(disturbed(hour))} in ${usual}`);
  put("degraded", percent(minute.rate ? minute.degraded / minute.rate : null));
  put("degraded-beside", `${percent(hour.rate ? hour.degraded / hour.rate : null)} in ${usual}`);
  for (const one of ACTIONS) {
    put(`share-${one}`, percent(minute.rate ? minute[one] / minute.rate : null));
    put(`a-minute-${one}`, isThere(minute[one]) ? `${whole.format(minute[one] * 60)}/min` : "–");
    put(`total-${one}`, whole.format(totals[one]));
  }
  let x = 0;
  for (const one of ACTIONS) {
    const part = minute.rate ? (minute[one] / minute.rate) * 100 : 0;
    const rect = document.querySelector(`.mix .${one}`);
    rect.setAttribute("x", x);
    rect.setAttribute("width", part ? Math.max(part, 0.6) : 0);
    x += part;
  }
  put("total", whole.format(total));
  state("model", models.champion ? `${models.champion} answers` : "none", models.champion ? "good" : "bad");
  state("breaker", ["closed", "half open", "open"][found.breaker] ?? "unknown", ["good", "careful", "bad"][found.breaker] ?? "plain");
  state("log", found.log_writable === 0 ? "cannot be written" : isThere(found.log_bytes) ? `durable, ${bytes(found.log_bytes)}` : "none", found.log_writable === 0 ? "bad" : "good");
  state("view", isThere(found.view_lag) ? (found.view_lag ? `${plural(found.view_lag, "entry", "entries")} behind` : "up to date") : "unknown", found.view_lag > 10000 ? "careful" : isThere(found.view_lag) ? "good" : "plain");
  state("waiting", found.queue ? whole.format(found.queue) : "nothing", found.queue > 1000 ? "careful" : "good");
  state("shadow", models.shadow ?? "none", models.shadow ? "info" : "plain");
  state("challenger", models.challenger ?? "none", models.challenger ? "info" : "plain");
  put("batch", isThere(found.batch) ? found.batch.toFixed(1) : "–");
  put("cache", isThere(found.cache_share) ? percent(found.cache_share) : "not asked");
  const without = minute.rate ? minute.degraded / minute.rate : 0;
  put("headline", !isThere(now.rate) ? "the server has just begun" : `${now.rate ? `${rate(now.rate)} decisions a second` : "no decisions at the moment"}, ${without ? `${percent(without)} without the model` : "nothing degraded"}`);
}

function bytes(n) {
  return n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.round(n / 1e3)} kB`;
}

function showProblem(problem) {
  const at = document.getElementById("problem");
  at.hidden = !problem;
  at.textContent = problem ?? "";
  if (problem) put("headline", "the server does not answer");
}

// the stream
let stream = null;
let isPaused = false;
const button = document.getElementById("pause");

function listen() {
  stream = new EventSource(`/live/events?range=${range}`);
  stream.onmessage = (event) => {
    const news = JSON.parse(event.data);
    showProblem(news.problem);
    if (news.now) { showNow(news); if (news.series.at) showSeries(news.series); }
    root.dataset.seen = String(Number(root.dataset.seen || 0) + 1);
  };
  stream.addEventListener("over", () => { stop(); location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`; });
  stream.onerror = () => showProblem("The console does not answer. This page goes on by itself as soon as it does.");
}

function stop() { stream?.close(); stream = null; }

function follow() {
  if (isPaused || document.hidden) stop(); else if (!stream) listen();
  button.firstChild.textContent = isPaused ? "Go on " : "Pause ";
  button.setAttribute("aria-pressed", String(isPaused));
}

button.addEventListener("click", () => { isPaused = !isPaused; follow(); });
document.addEventListener("visibilitychange", follow);
addEventListener("pagehide", stop);
follow();

"use strict";
// The gateway's page: asks /gateway/api/status once a second, keeps three minutes of answers, and draws differences.

const KEEP = 181, WINDOW = 30, SPLIT = 60;
const history = [];          // [{at, byName: Map(name -> backend), status}]
const order = [];            // names in the order they were first seen: a backend keeps its colour
const $ = (id) => document.getElementById(id);

function element(tag, cls, text) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
}

function svg(tag, attributes) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  return e;
}

function colour(name) {
  if (!order.includes(name)) order.push(name);
  return "k" + order.indexOf(name) % 8;
}

// ---- numbers

function count(v) {
  if (v >= 1e6) return (v / 1e6).toFixed(1) + " M";
  if (v >= 1e4) return (v / 1e3).toFixed(1) + " k";
  return v >= 100 || Number.isInteger(v) ? v.toFixed(0) : v.toFixed(1);
}

function time(s) {
  if (s === null) return "–";
  if (s < 0.001) return (s * 1e6).toFixed(0) + " µs";
  if (s < 1) return (s * 1e3).toFixed(s < 0.01 ? 1 : 0) + " ms";
  return s.toFixed(s < 10 ? 2 : 1) + " s";
}

function age(s) {
  if (s < 120) return Math.floor(s) + " s";
  if (s < 7200) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " days";
}

// The snapshot that lies so many seconds before index i, or the first one.
function before(i, seconds) {
  let k = i;
  while (k > 0 && history[i].at - history[k].at < seconds) k--;
  return history[k];
}

// A restarted gateway counts from nothing again: then everything is new.
function grown(now, then, field) {
  if (!then) return 0;
  const d = now[field] - then[field];
  return d < 0 ? now[field] : d;
}

function rate(i, name, field, seconds) {
  const b = history[i].byName.get(name), then = before(i, seconds);
  const span = history[i].at - then.at;
  return b && span > 0 ? grown(b, then.byName.get(name), field) / span : 0;
}

// The p-quantile of what came between two snapshots of a histogram, within its bucket in proportion.
function quantile(now, then, p) {
  const fresh = then && then.count <= now.count ? then : null;
  const total = now.count - (fresh ? fresh.count : 0);
  if (total <= 0) return null;
  const want = p * total;
  let low = 0, below = 0;
  for (let i = 0; i < now.buckets.length; i++) {
    const upto = now.buckets[i][1] - (fresh ? fresh.buckets[i][1] : 0);
    if (upto >= want) return upto > below ? low + (now.buckets[i][0] - low) * (want - below) / (upto - below) : now.buckets[i][0];
    low = now.buckets[i][0];
    below = upto;
  }
  return low;
}

function latency(i, name, which, p) {
  const b = history[i].byName.get(name), then = before(i, WINDOW).byName.get(name);
  return b ? quantile(b[which], then && then !== b ? then[which] : null, p) : null;
}

// ---- the page

function failures(b) {
  return Object.values(b.failures).reduce((a, v) => a + v, 0);
}

const GOOD = new Set(["up"]), WARN = new Set(["warming", "draining", "drained", "on trial", "unknown"]);

function mood(state) {
  return GOOD.has(state) ? "good" : WARN.has(state) ? "warn" : "bad";
}

function drawTiles(i) {
  const s = history[i].status, then = before(i, 10), span = history[i].at - then.at || 1;
  const sum = (f) => s.backends.reduce((a, b) => a + f(b), 0);
  const wait = s.pools.reduce((a, p) => a + p.queued, 0);
  const answered = (x) => x.answers.reduce((a, v) => a + v, 0);
  const perSecond = Math.max(0, answered(s) - answered(then.status)) / span;
  const tokens = s.backends.reduce((a, b) => a + rate(i, b.name, "answer_tokens", 10), 0);
  const tiles = [
    ["Answers/s", count(perSecond)], ["In flight", count(s.inflight)], ["Waiting", count(wait)], ["Tokens/s", count(tokens)],
    ["Backends usable", sum((b) => b.usable ? 1 : 0) + " of " + s.backends.length],
    ["Failed tries", count(sum(failures))], ["Streams continued", count(sum((b) => b.resumed_to))], ["Answers 5xx", count(s.answers[5])],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const t = element("div", "tile");
    t.append(element("b", "", value), element("span", "", name));
    return t;
  }));
}

function cell(row, text, cls) {
  const c = element("td", cls, text);
  row.append(c);
  return c;
}

function drawBackends(i) {
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.backend : null;
  const rows = history[i].status.backends.map((b) => {
    const row = element("tr");
    row.dataset.backend = b.name;
    const name = cell(row, "", "name");
    name.append(element("span", "dot " + colour(b.name)), b.name, element("small", "", b.kind + " · " + b.url));
    const state = cell(row, "", mood(b.state));
    state.append(b.state + (b.state === "warming" ? " " + Math.round(b.ramp * 100) + " %" : ""));
    if (b.why && b.state !== "up") {
      const why = element("span", "why", b.why);
      why.title = b.why;
      state.append(why);
    }
    const models = cell(row, b.models.join(", ") || "–", "models");
    models.title = b.models.join("\n");
    cell(row, b.inflight + (b.max_inflight ? " / " + b.max_inflight : ""), "n");
    cell(row, count(b.owed_tokens), "n");
    cell(row, count(rate(i, b.name, "requests", 10)), "n");
    cell(row, count(rate(i, b.name, "answer_tokens", 10)), "n");
    cell(row, time(latency(i, b.name, "ttft", 0.5)), "n");
    cell(row, time(latency(i, b.name, "ttft", 0.95)), "n");
    cell(row, count(failures(b)), "n");
    cell(row, b.resumed_from + " → " + b.resumed_to, "n").title = "streams that it lost, and that it continued";
    const button = element("button", "", b.draining ? "undrain" : "drain");
    button.dataset.backend = b.name;
    button.addEventListener("click", () => obey(b.draining ? "undrain" : "drain", b.name));
    cell(row, "").append(button);
    return row;
  });
  $("backends").tBodies[0].replaceChildren(...rows);
  if (focused) {
    const again = document.querySelector(`button[data-backend="${CSS.escape(focused)}"]`);
    if (again) again.focus();
  }
}

function drawSplit(i) {
  const then = before(i, SPLIT);
  const parts = history[i].status.backends.map((b) => [b.name, grown(b, then.byName.get(b.name), "requests")]);
  const total = parts.reduce((a, [, n]) => a + n, 0);
  $("split").replaceChildren(...parts.filter(([, n]) => n).map(([name, n]) => {
    const d = element("div", colour(name));
    d.style.flexGrow = n;
    d.title = `${name}: ${n}`;
    return d;
  }));
  $("legend").replaceChildren(...parts.map(([name, n]) => {
    const l = element("span");
    l.append(element("span", "dot " + colour(name)), `${name} ${total ? (100 * n / total).toFixed(1) : "0"} % (${n})`);
    return l;
  }));
}

function drawPools(s) {
  $("pools").tBodies[0].replaceChildren(...s.pools.map((p) => {
    const row = element("tr");
    cell(row, p.name, "name");
    cell(row, p.policy);
    cell(row, count(p.queued), "n");
    cell(row, count(p.queue_limit), "n");
    cell(row, p.members.map((m) => `${m.backend} ${count(m.requests)}`).join(" · "));
    return row;
  }));
}

// ---- rollouts

let rollouts = [];
const MOODS = { warming: "warn", running: "good", paused: "warn", rolled_back: "bad", done: "good" };

// How far the evidence is on its way to closing a gate, from 0 to 1.
function worry(g) {
  return Math.min(1, Math.max(0, Math.log(g.wealth) / Math.log(g.closes_at)));
}

function shareOf(pair) {
  return pair[1] ? (100 * pair[0] / pair[1]).toFixed(1) + " % of " + count(pair[1]) : "–";
}

function drawSteps(r) {
  const bar = element("div", "steps");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `${r.per_cent} % on the new side`);
  const fill = element("div", "fill");
  fill.style.width = r.per_cent + "%";
  bar.append(fill);
  for (const s of r.plan.steps) {
    const mark = element("span", s <= r.per_cent ? "reached" : "", s + " %");
    mark.style.left = s + "%";
    bar.append(mark);
  }
  return bar;
}

function drawGates(r) {
  const table = element("table", "gates"), head = element("tr"), body = element("tbody");
  for (const [t, c] of [["Gate", ""], ["Allowed", ""], ["Old side", "n"], ["New side", "n"], ["Evidence that it is worse", ""], ["Verdict", ""]]) head.append(element("th", c, t));
  for (const g of r.figures.gates.filter((g) => g.on)) {
    const row = element("tr");
    row.dataset.gate = g.gate;
    cell(row, g.gate, "name").title = g.words;
    cell(row, g.kind === "factor" ? `× ${g.limit}` : `+ ${(100 * g.limit).toFixed(1)} %`);
    cell(row, shareOf(g.old), "n");
    cell(row, shareOf(g.new), "n");
    const meter = element("div", "meter"), fill = element("div", g.closed ? "bad" : worry(g) > 0.4 ? "warn" : "");
    fill.style.width = 100 * (g.closed ? 1 : worry(g)) + "%";
    meter.append(fill);
    meter.title = `${g.wealth.toPrecision(3)}; closes at ${g.closes_at.toPrecision(3)}`;
    cell(row, "").append(meter);
    cell(row, g.closed ? "worse" : g.proven ? "no worse, proven" : "undecided", g.closed ? "bad" : g.proven ? "good" : "");
    body.append(row);
  }
  const wrap = element("div", "scroll"), top = element("thead");
  top.append(head);
  table.append(top, body);
  wrap.append(table);
  return wrap;
}

function action(r, what, text, cls) {
  const b = element("button", cls, text);
  b.dataset.action = what;
  b.dataset.pool = r.pool;
  b.addEventListener("click", () => command(r.pool, what));
  return b;
}

function drawRollout(r) {
  const box = element("div", "rollout");
  box.dataset.pool = r.pool;
  const head = element("h2", "", "Rollout ");
  head.append(element("small", "", `pool ${r.pool}: ${r.plan.from.join(", ")} → ${r.plan.to.join(", ")}`));
  const line = element("p");
  line.append(element("b", MOODS[r.state], r.state.replace("_", " ")), ` · ${r.per_cent} % on the new side · ${r.advice || r.why}`);
  const n = r.figures.requests, f = r.figures.failures;
  const facts = element("p", "faint", `this step: ${count(n[0])} requests old, ${count(n[1])} new · failed ${f[0]} old, ${f[1]} new · running ${r.inflight[0]} old, ${r.inflight[1]} new`);
  const acts = element("div", "acts");
  const open = ["warming", "running", "paused"].includes(r.state);
  if (open || r.state === "done") acts.append(action(r, "rollback", "Roll back now", "red"));
  if (r.state === "paused") acts.append(action(r, "resume", "Resume", ""));
  if (r.state === "running" || r.state === "warming") acts.append(action(r, "pause", "Pause", ""));
  if (r.state === "running") acts.append(action(r, "promote", "Next step", ""));
  box.append(head, line, drawSteps(r), facts, acts, drawGates(r));
  return box;
}

function drawRollouts() {
  const at = document.activeElement && document.activeElement.dataset ? { ...document.activeElement.dataset } : {};
  const shown = rollouts.filter((r) => r.state !== "none");
  $("rollouts").hidden = !shown.length;
  $("rollouts").replaceChildren(...shown.map(drawRollout));
  if (!at.action) return;
  const again = document.querySelector(`button[data-action="${at.action}"][data-pool="${CSS.escape(at.pool)}"]`);
  if (again) again.focus();
}

async function command(pool, what) {
  const r = await fetch("/gateway/api/rollout", { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify({ action: what, pool }) });
  if (!r.ok) $("state").textContent = (await r.json()).error.message;
  await look();
}

// ---- plots

const WIDTH = 480, HEIGHT = 190, LEFT = 52, BOTTOM = 20, TOP = 6;

function nice(v) {
  const p = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 5, 10].map((m) => m * p).find((m) => m >= v);
}

function plot(id, lines, show) {
  const box = $(id), last = history[history.length - 1].at;
  const span = Math.min(180, Math.max(30, Math.ceil((last - history[0].at) / 30) * 30));
  let top = 0;
  for (const l of lines) for (const [, v] of l.points) top = Math.max(top, v);
  top = top > 0 ? nice(top) : 1;
  const x = (at) => LEFT + (WIDTH - LEFT) * (1 - (last - at) / span);
  const y = (v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / top);
  box.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  box.setAttribute("role", "img");
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(top * part), y2: y(top * part) }));
    const t = svg("text", { x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" });
    t.textContent = show(top * part);
    parts.push(t);
  }
  for (const s of [span, span * 2 / 3, span / 3, 0]) {
    const t = svg("text", { x: x(last - s), y: HEIGHT - 4, "text-anchor": s === span ? "start" : s ? "middle" : "end" });
    t.textContent = s ? `−${s} s` : "now";
    parts.push(t);
  }
  for (const l of lines) {
    if (!l.points.length) continue;
    const p = svg("polyline", { class: `${colour(l.name)}${l.high ? " high" : ""}`, points: l.points.map(([at, v]) => `${x(at).toFixed(1)},${y(v).toFixed(1)}`).join(" ") });
    const title = svg("title");
    title.textContent = `${l.name}${l.high ? " p95" : ""}: ${show(l.points[l.points.length - 1][1])}`;
    p.append(title);
    parts.push(p);
  }
  box.setAttribute("aria-label", lines.filter((l) => l.points.length).map((l) => `${l.name}${l.high ? " p95" : ""} ${show(l.points[l.points.length - 1][1])}`).join(", "));
  box.replaceChildren(...parts);
}

function series(name, value) {
  const points = [];
  for (let i = 1; i < history.length; i++) {
    const v = value(i, name);
    if (v !== null) points.push([history[i].at, v]);
  }
  return points;
}

function drawPlots(s) {
  const names = s.backends.map((b) => b.name);
  const both = (which) => names.flatMap((name) => [
    { name, points: series(name, (i, n) => latency(i, n, which, 0.5)) },
    { name, high: true, points: series(name, (i, n) => latency(i, n, which, 0.95)) },
  ]);
  plot("plot-ttft", both("ttft"), (v) => v ? time(v) : "0");
  plot("plot-itl", both("itl"), (v) => v ? time(v) : "0");
  plot("plot-rate", names.map((name) => ({ name, points: series(name, (i, n) => rate(i, n, "answer_tokens", 5)) })), count);
}

function draw() {
  const i = history.length - 1, s = history[i].status;
  const usable = s.backends.filter((b) => b.usable).length;
  const says = s.draining ? "draining" : usable === s.backends.length ? "all backends are up" : usable ? `${s.backends.length - usable} of ${s.backends.length} backends get no requests` : "no healthy backends";
  $("state").textContent = says;
  $("state").className = s.draining || !usable ? "bad" : usable === s.backends.length ? "good" : "warn";
  $("uptime").textContent = `${s.version} · up ${age(s.uptime_s)}`;
  drawTiles(i);
  drawBackends(i);
  drawRollouts();
  drawSplit(i);
  drawPools(s);
  drawPlots(s);
}

// ---- asking

function headers() {
  const key = sessionStorage.getItem("admin-key");
  return key ? { Authorization: "Bearer " + key } : {};
}

function shut(words) {
  $("main").hidden = true;
  $("door").hidden = false;
  $("door-says").textContent = sessionStorage.getItem("admin-key") ? words : "";
  $("state").textContent = "locked";
  $("state").className = "warn";
}

async function look() {
  const r = await fetch("/gateway/api/status", { headers: headers(), cache: "no-store" });
  if (r.status === 401 || r.status === 403) {
    shut((await r.json()).error.message);
    return;
  }
  if (!r.ok) throw new Error("status " + r.status);
  const status = await r.json();
  const said = await fetch("/gateway/api/rollout", { headers: headers(), cache: "no-store" });
  rollouts = said.ok ? (await said.json()).rollouts : [];
  history.push({ at: performance.now() / 1000, status, byName: new Map(status.backends.map((b) => [b.name, b])) });
  if (history.length > KEEP) history.shift();
  $("door").hidden = true;
  $("main").hidden = false;
  draw();
}

async function obey(what, backend) {
  await fetch("/gateway/api/" + what, { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify({ backend }) });
  await look();
}

async function again() {
  try {
    await look();
  } catch (e) {
    $("state").textContent = "the gateway does not answer: " + e.message;
    $("state").className = "bad";
  }
  setTimeout(again, document.hidden ? 5000 : 1000);
}

$("door").addEventListener("submit", (e) => {
  e.preventDefault();
  sessionStorage.setItem("admin-key", $("key").value);
  $("key").value = "";
  look();
});

again();

"use strict";
/* One page, no dependencies. A conversation is a list of {role, content, reasoning?}; all of them live in
 * localStorage. Answers stream from /v1/chat/completions; stopping closes the connection, which stops the work. */

const $ = (id) => document.getElementById(id);
const SETTINGS = ["system", "temperature", "top_p", "max_tokens", "seed"];
const KEEP = 100; // conversations

const store = {
  get(key, otherwise) {
    try { return JSON.parse(localStorage.getItem("loam." + key)) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { localStorage.setItem("loam." + key, JSON.stringify(value)); } catch { /* full or forbidden: it is only memory */ }
  },
};

let chats = store.get("chats", []);
let current = null;  // of chats
let running = null;  // AbortController of the answer being written

/* ---- conversations ---- */

function newChat() {
  current = { id: Date.now().toString(36) + Math.random().toString(36).slice(2, 6), title: "", messages: [] };
  drawChats();
  drawLog();
  $("text").focus();
}

function save() {
  if (!chats.includes(current) && current.messages.length) chats.unshift(current);
  chats = chats.slice(0, KEEP);
  store.set("chats", chats);
}

function drawChats() {
  $("chats").replaceChildren(...chats.map((c) => {
    const open = document.createElement("button"), drop = document.createElement("button"), li = document.createElement("li");
    open.type = drop.type = "button";
    open.className = "open";
    open.textContent = c.title || "Untitled";
    open.onclick = () => { if (!running) { current = c; drawChats(); drawLog(); side(false); } };
    drop.className = "drop quiet";
    drop.textContent = "✕";
    drop.setAttribute("aria-label", "Delete " + open.textContent);
    drop.onclick = () => {
      chats = chats.filter((x) => x !== c);
      store.set("chats", chats);
      if (c === current && !running) newChat(); else drawChats();
    };
    li.classList.toggle("current", c === current);
    li.append(open, drop);
    return li;
  }));
}

function side(open) {
  $("side").classList.toggle("open", open);
  $("shade").hidden = !open;
}

/* ---- messages ---- */

function button(label, run) {
  const b = document.createElement("button");
  b.type = "button";
  b.className = "quiet";
  b.textContent = label;
  b.onclick = run;
  return b;
}

function copyButton(text) {
  const b = button("Copy", async () => {
    await navigator.clipboard.writeText(text());
    b.textContent = "Copied";
    setTimeout(() => { b.textContent = "Copy"; }, 1200);
  });
  return b;
}

function drawBody(view, message) {
  const body = document.createElement("div");
  body.className = "body";
  if (message.role === "user") {
    body.textContent = message.content;
  } else {
    body.append(markdown(message.content));
    for (const pre of body.querySelectorAll("pre")) pre.append(copyButton(() => pre.firstChild.textContent));
  }
  view.querySelector(".body").replaceWith(body);
  let thinking = view.querySelector("details");
  if (message.reasoning && !thinking) {
    thinking = document.createElement("details");
    thinking.open = true;
    const text = document.createElement("div"), summary = document.createElement("summary");
    summary.textContent = "Thinking";
    text.className = "thinking";
    thinking.append(summary, text);
    body.before(thinking);
  }
  if (thinking) thinking.lastChild.textContent = message.reasoning;
}

function drawMessage(message) {
  const view = document.createElement("article"), body = document.createElement("div"), tools = document.createElement("div");
  view.className = "message " + message.role;
  body.className = "body";
  view.append(body);
  drawBody(view, message);
  if (message.role === "assistant") {
    tools.className = "tools";
    tools.append(copyButton(() => message.content), button("Regenerate", () => regenerate(message)));
    view.append(tools);
  }
  if (message.problem) showProblem(view, message.problem);
  return view;
}

function showProblem(view, words) {
  const p = document.createElement("p");
  p.className = "problem";
  p.textContent = words;
  view.insertBefore(p, view.querySelector(".tools"));
}

function drawLog() {
  if (current.messages.length) {
    $("log").replaceChildren(...current.messages.map(drawMessage));
  } else {
    const p = document.createElement("p");
    p.className = "empty";
    p.textContent = "Ask something. It is answered on this machine.";
    $("log").replaceChildren(p);
  }
  $("log").scrollTop = $("log").scrollHeight;
}

function atBottom() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

/* ---- the answer ---- */

function headers() {
  const h = { "Content-Type": "application/json" }, key = $("key").value.trim();
  if (key) h.Authorization = "Bearer " + key;
  return h;
}

function requestBody() {
  const messages = current.messages.filter((m) => m.content).map(({ role, content }) => ({ role, content }));
  const system = $("system").value.trim();
  if (system) messages.unshift({ role: "system", content: system });
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if ($("model").value) body.model = $("model").value;
  for (const name of ["temperature", "top_p", "max_tokens", "seed"])
    if ($(name).value !== "") body[name] = Number($(name).value);
  return body;
}

/* Calls take(object) for each event of an SSE body. */
async function readEvents(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines)
      if (line.startsWith("data: ") && line !== "data: [DONE]") take(JSON.parse(line.slice(6)));
  }
}

function meter(run, usage) {
  const now = run.last ?? performance.now(), parts = [];
  if (run.first) parts.push("first token " + ((run.first - run.began) / 1000).toFixed(2) + " s");
  const n = usage ? usage.completion_tokens : run.pieces;
  if (run.first && n > 1 && now > run.first + 50) parts.push(((n - 1) / ((now - run.first) / 1000)).toFixed(1) + " tok/s");
  if (usage) parts.push(usage.prompt_tokens + " + " + usage.completion_tokens + " tokens");
  if (usage?.prompt_tokens_details?.cached_tokens) parts.push(usage.prompt_tokens_details.cached_tokens + " cached");
  $("meter").textContent = parts.join(" · ");
}

async function answer() {
  const message = { role: "assistant", content: "" };
  const run = { began: performance.now(), first: 0, pieces: 0 };
  const body = requestBody();
  current.messages.push(message);
  const view = drawMessage(message);
  view.classList.add("waiting");
  $("log").append(view);
  $("log").scrollTop = $("log").scrollHeight;

  let due = false;
  const draw = () => {
    due = false;
    if (!view.isConnected) return; // the last frame came after the end
    const follow = atBottom();
    drawBody(view, message);
    meter(run);
    if (follow) $("log").scrollTop = $("log").scrollHeight;
  };
  const take = (event) => {
    if (event.error) throw new Error(event.error.message);
    if (event.usage) run.usage = event.usage;
    const delta = event.choices?.[0]?.delta ?? {};
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (!delta.content && !thought) return;
    run.first ||= performance.now();
    run.last = performance.now();
    run.pieces++;
    message.content += delta.content ?? "";
    if (thought) message.reasoning = (message.reasoning ?? "") + thought;
    if (!due) { due = true; requestAnimationFrame(draw); }
  };

  running = new AbortController();
  busy(true);
  try {
    const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal });
    if (!response.ok) {
      const problem = await response.json().catch(() => null);
      throw new Error(problem?.error?.message ?? "The server answered " + response.status + ".");
    }
    await readEvents(response, take);
  } catch (e) {
    if (e.name !== "AbortError") message.problem = e instanceof TypeError ? "The server cannot be reached." : e.message;
  }
  running = null;
  busy(false);
  view.replaceWith(drawMessage(message));
  if (atBottom()) $("log").scrollTop = $("log").scrollHeight;
  meter(run, run.usage);
  if (!message.content && !message.problem) current.messages.pop();
  save();
  drawChats();
  status();
}

function regenerate(message) {
  if (running) return;
  current.messages.length = current.messages.indexOf(message);
  drawLog();
  answer();
}

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("new").disabled = on;
}

function send() {
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  grow();
  if (!current.messages.length) {
    current.title = text.slice(0, 60);
    $("log").replaceChildren();
  }
  current.messages.push({ role: "user", content: text });
  $("log").append(drawMessage(current.messages.at(-1)));
  save();
  drawChats();
  answer();
}

/* ---- the server ---- */

async function status() {
  let words = "", bad = false, again = 0;
  try {
    const h = await (await fetch("/health")).json();
    if (h.status === "ok") words = h.device;
    else { words = h.status === "loading" ? "loading the model…" : "shutting down"; again = 1000; }
    if (h.status === "ok" && !$("model").options.length) await models();
  } catch {
    words = "the server cannot be reached";
    bad = true;
    again = 3000;
  }
  $("state").textContent = words;
  $("state").classList.toggle("bad", bad);
  if (again) setTimeout(status, again);
}

async function models() {
  const list = await (await fetch("/v1/models", { headers: headers() })).json();
  if (!list.data) return;
  $("model").replaceChildren(...list.data.map((m) => new Option(m.id, m.id)));
  const last = store.get("model", "");
  if (list.data.some((m) => m.id === last)) $("model").value = last;
}

/* ---- wiring ---- */

function grow() {
  const t = $("text");
  t.rows = Math.min(10, Math.max(1, t.value.split("\n").length));
}

$("composer").onsubmit = (e) => { e.preventDefault(); send(); };
$("text").oninput = grow;
$("text").onkeydown = (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
};
$("stop").onclick = () => running?.abort();
$("new").onclick = () => { if (!running) { newChat(); side(false); } };
$("side-open").onclick = () => side(true);
$("side-close").onclick = $("shade").onclick = () => side(false);
$("settings-open").onclick = () => { $("settings").hidden = !$("settings").hidden; };
$("model").onchange = () => store.set("model", $("model").value);
for (const name of SETTINGS) {
  $(name).value = store.get("setting." + name, "");
  $(name).onchange = () => store.set("setting." + name, $(name).value);
}
$("key").value = sessionStorage.getItem("loam.key") ?? "";
$("key").onchange = () => { sessionStorage.setItem("loam.key", $("key").value); models(); };

newChat();
status();

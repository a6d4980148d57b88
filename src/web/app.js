"use strict";
/* The page's doings. Answers stream from /v1/chat/completions; stopping closes the connection, which stops the work. Each
 * conversation may have one answer running, and another may be looked at meanwhile. */

let current = makeChat();
const running = new Map(); // chat -> AbortController
let limit = 0;             // tokens of the model's context

const does = {
  regenerate(message) {
    if (running.has(current)) return;
    current.messages.length = current.messages.indexOf(message);
    drawLog();
    answer(current);
  },
  proceed(message) {
    if (running.has(current) || message !== current.messages.at(-1)) return;
    answer(current, message);
  },
  edit(message, text) {
    if (running.has(current)) return;
    const at = current.messages.indexOf(message);
    current.messages.length = at;
    if (at === 0) current.title = text.slice(0, 60);
    drawLog();
    say(text);
  },
  open(chat) {
    current = chat;
    drawAll();
    side(false);
  },
  drop(chat) {
    running.get(chat)?.abort();
    dropChat(chat);
    if (chat === current) current = makeChat();
    drawAll();
  },
};

/* ---- drawing ---- */

function drawAll() {
  drawList(current, running, does);
  drawLog();
  busy();
}

function drawLog() {
  const views = current.messages.map((m) => live.get(m)?.view ?? drawMessage(m, does));
  $("thread").replaceChildren(...(views.length ? views : [drawEmpty(say)]));
  toEnd();
  drawUsed(current.messages.at(-1)?.stats);
}

function drawUsed(stats) {
  const n = stats?.context;
  $("used").textContent = n && limit ? n.toLocaleString("en") + " of " + limit.toLocaleString("en") + " tokens of context" : "";
}

function toEnd() {
  $("log").scrollTop = $("log").scrollHeight;
}

function atEnd() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function busy() {
  const on = running.has(current);
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("send").disabled = !$("text").value.trim();
}

function side(open) {
  $("side").classList.toggle("open", open);
  $("shade").hidden = !open && $("settings").hidden;
}

function settings(open) {
  $("settings").hidden = !open;
  $("settings-open").setAttribute("aria-expanded", String(open));
  $("shade").hidden = !open;
  if (open) $("side").classList.remove("open");
}

/* ---- the answer ---- */

function headers() {
  const h = { "Content-Type": "application/json" }, key = $("key").value.trim();
  if (key) h.Authorization = "Bearer " + key;
  return h;
}

function requestBody(chat, proceed) {
  const messages = chat.messages.filter((m) => m.content).map(({ role, content }) => ({ role, content }));
  const system = $("system").value.trim();
  if (system) messages.unshift({ role: "system", content: system });
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if (proceed) body.continue_final_message = true;
  if ($("model").value) body.model = $("model").value;
  for (const name of SETTINGS.slice(1))
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

/* Answers being written: message -> Writing. */
const live = new Map();

class Writing {
  constructor(message) {
    this.message = message;
    this.view = drawMessage(message, does);
    this.view.classList.add("waiting");
    this.began = performance.now();
    this.pieces = 0;
    live.set(message, this);
  }

  take(event) {
    if (event.error) throw new Error(event.error.message);
    if (event.usage) this.usage = event.usage;
    const choice = event.choices?.[0], delta = choice?.delta ?? {}, thought = delta.reasoning_content ?? delta.reasoning;
    if (choice?.finish_reason) this.message.cut = choice.finish_reason === "length";
    if (!delta.content && !thought) return;
    const m = this.message;
    this.first ??= performance.now();
    this.last = performance.now();
    this.pieces++;
    if (thought) m.reasoning = (m.reasoning ?? "") + thought;
    if (delta.content) {
      if (m.reasoning && m.thought_s === undefined) m.thought_s = (this.last - this.first) / 1000;
      m.content += delta.content;
    }
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      if (!live.has(this.message)) return; // the last frame came after the end
      const follow = atEnd();
      drawBody(this.view, this.message, true);
      this.view.querySelector(".meter").textContent = meterText(this.stats());
      if (follow && this.view.isConnected) toEnd();
    });
  }

  stats() {
    const s = {}, u = this.usage, n = u ? u.completion_tokens : this.pieces;
    if (!this.first) return s;
    s.ttft_s = (this.first - this.began) / 1000;
    if (n > 1 && this.last > this.first + 50) s.tok_s = (n - 1) / ((this.last - this.first) / 1000);
    s.tokens = n;
    if (u) {
      s.context = u.total_tokens;
      s.cached = u.prompt_tokens_details?.cached_tokens;
    }
    return s;
  }

  end() {
    live.delete(this.message);
    if (this.first) this.message.stats = this.stats();
    const follow = atEnd(), view = drawMessage(this.message, does);
    this.view.replaceWith(view);
    if (follow && view.isConnected) toEnd();
  }
}

async function problemOf(response) {
  const said = await response.json().catch(() => null);
  if (response.status === 401) settings(true);
  return new Error(said?.error?.message ?? "The server answered " + response.status + ".");
}

async function answer(chat, proceed) {
  const body = requestBody(chat, proceed), stop = new AbortController();
  const message = proceed ?? { role: "assistant", content: "" };
  delete message.problem;
  delete message.cut;
  if (!proceed) chat.messages.push(message);
  running.set(chat, stop);
  const writing = new Writing(message);
  if (chat === current) drawLog();
  drawList(current, running, does);
  busy();
  try {
    const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: stop.signal });
    if (!response.ok) throw await problemOf(response);
    await readEvents(response, (event) => writing.take(event));
  } catch (e) {
    if (e.name !== "AbortError") message.problem = e instanceof TypeError ? "The server cannot be reached." : e.message;
  }
  running.delete(chat);
  writing.end();
  if (!message.content && !message.reasoning && !message.problem) message.problem = "Stopped before the first word.";
  if (chats.includes(chat)) keepChat(chat);
  if (chat === current) drawUsed(message.stats);
  drawList(current, running, does);
  busy();
  status();
}

function say(text) {
  if (running.has(current)) return;
  if (!current.messages.length) current.title = text.slice(0, 60);
  current.messages.push({ role: "user", content: text });
  keepChat(current);
  answer(current);
}

function send() {
  const text = $("text").value.trim();
  if (!text || running.has(current)) return;
  $("text").value = "";
  grow();
  say(text);
}

/* ---- the server ---- */

let asking = 0;

async function status() {
  let words = "", kind = "", again = 0;
  try {
    const h = await (await fetch("/health")).json();
    const good = h.status === "ok";
    words = good ? h.device ?? "ready" : h.status === "loading" ? "loading the model…" : "not ready: " + h.status;
    kind = good ? "good" : "";
    again = good ? 0 : 1000;
    if (good && !$("model").options.length) await models();
  } catch {
    words = "the server cannot be reached";
    kind = "bad";
    again = 3000;
  }
  $("state").textContent = words;
  $("state").className = kind;
  clearTimeout(asking);
  if (again) asking = setTimeout(status, again);
}

let known = [];

async function models() {
  const list = await (await fetch("/v1/models", { headers: headers() })).json();
  if (!list.data) return;
  known = list.data;
  $("model").replaceChildren(...known.map((m) => new Option(m.id, m.id)));
  const last = store.get("model", "");
  if (known.some((m) => m.id === last)) $("model").value = last;
  about();
}

function count(n) {
  return n >= 1e9 ? (n / 1e9).toFixed(1) + " billion" : n >= 1e6 ? (n / 1e6).toFixed(0) + " million" : String(n);
}

function about() {
  const m = known.find((x) => x.id === $("model").value), meta = m?.meta ?? {}, rows = [];
  const q = meta.quantization;
  if (meta.family) rows.push(["Family", meta.family]);
  if (meta.parameters) rows.push(["Parameters", count(meta.parameters)]);
  if ("quantization" in meta) rows.push(["Weights", q ? q.bits + " bits (" + q.mode + ")" : "not quantised"]);
  if (m?.max_model_len) rows.push(["Context", m.max_model_len.toLocaleString("en") + " tokens"]);
  if (meta.capabilities) rows.push(["Can", meta.capabilities.join(", ")]);
  if (m?.state && m.state !== "loaded") rows.push(["State", m.state + ": the first question loads it"]);
  limit = m?.max_model_len ?? 0;
  $("about").replaceChildren(...rows.flatMap(([name, value]) => [node("dt", "", name), node("dd", "", value)]));
  drawUsed(current.messages.at(-1)?.stats);
}

/* ---- wiring ---- */

function grow() {
  const t = $("text");
  t.rows = Math.min(10, Math.max(1, t.value.split("\n").length));
  busy();
}

function newChat() {
  if (current.messages.length) current = makeChat();
  drawAll();
  side(false);
  $("text").focus();
}

$("composer").onsubmit = (e) => { e.preventDefault(); send(); };
$("text").oninput = grow;
$("text").onkeydown = (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
};
$("stop").onclick = () => running.get(current)?.abort();
$("new").onclick = newChat;
$("side-open").onclick = () => side(true);
$("side-close").onclick = () => side(false);
$("shade").onclick = () => { side(false); settings(false); };
$("settings-open").onclick = () => settings($("settings").hidden);
$("settings-close").onclick = () => settings(false);
$("down").onclick = toEnd;
$("log").onscroll = () => { $("down").hidden = atEnd(); };
$("theme").onclick = () => store.set("theme", setTheme(NEXT[document.documentElement.dataset.theme ?? "auto"]));
$("model").onchange = () => { store.set("model", $("model").value); about(); };
for (const name of SETTINGS) {
  $(name).value = store.get("setting." + name, "");
  $(name).onchange = () => store.set("setting." + name, $(name).value);
}
$("reset").onclick = () => {
  for (const name of SETTINGS) {
    $(name).value = "";
    store.set("setting." + name, "");
  }
};
$("key").value = sessionStorage.getItem("loam.key") ?? "";
$("key").onchange = () => { sessionStorage.setItem("loam.key", $("key").value); models(); };
document.onkeydown = (e) => {
  if (e.key !== "Escape") return;
  if (!$("settings").hidden) settings(false);
  else running.get(current)?.abort();
};
addEventListener("storage", (e) => {
  if (e.key !== "loam.chats") return;
  readChats();
  drawList(current, running, does);
});
addEventListener("pagehide", () => { if (running.size) saveChats(); });

setTheme(store.get("theme", "auto"));
newChat();
status();

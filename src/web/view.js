"use strict";
/* Conversations and messages as elements. Nothing here knows the server. */

const $ = (id) => document.getElementById(id);

function node(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

function button(label, run, className = "plain") {
  const b = node("button", className, label);
  b.type = "button";
  b.onclick = run;
  return b;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", "#i-" + name);
  svg.append(use);
  return svg;
}

/* The clipboard's own door is closed on pages that came over plain HTTP from another machine. */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = node("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function copyButton(text) {
  const b = button("Copy", async () => {
    await copyText(text());
    b.textContent = "Copied";
    setTimeout(() => { b.textContent = "Copy"; }, 1200);
  });
  return b;
}

/* ---- one message ---- */

function meterText(s) {
  const parts = [];
  if (s.ttft_s !== undefined) parts.push(s.ttft_s.toFixed(2) + " s to first token");
  if (s.tok_s) parts.push(s.tok_s.toFixed(1) + " tok/s");
  if (s.tokens) parts.push(s.tokens + (s.tokens === 1 ? " token" : " tokens"));
  if (s.cached) parts.push(s.cached + " cached");
  return parts.join(" · ");
}

function drawThinking(view, message, open) {
  let box = view.querySelector("details");
  if (!message.reasoning) return;
  if (!box) {
    box = node("details", "", node("summary"), node("div", "thinking"));
    box.open = open;
    view.querySelector(".body").before(box);
  }
  if (!open && !message.content) box.open = true; // all there is
  else if (open && message.content && !box.dataset.folded) {
    box.open = false; // the answer has begun
    box.dataset.folded = "1";
  }
  box.firstChild.textContent = message.thought_s === undefined ? "Thinking…" : "Thought for " + message.thought_s.toFixed(1) + " s";
  box.lastChild.textContent = message.reasoning;
}

function drawBody(view, message, live) {
  const body = node("div", "body");
  if (message.role === "user") {
    body.textContent = message.content;
  } else {
    body.append(markdown(message.content));
    for (const pre of body.querySelectorAll("pre")) {
      const code = pre.firstChild;
      pre.prepend(node("div", "pre-head", node("span", "", pre.dataset.language ?? ""), copyButton(() => code.textContent)));
    }
  }
  view.querySelector(".body").replaceWith(body);
  drawThinking(view, message, live);
}

/* do: what a message's buttons do: {regenerate, proceed, edit}. */
function drawMessage(message, does) {
  const view = node("article", "message " + message.role, node("div", "body"));
  const tools = node("div", "tools");
  drawBody(view, message, false);
  if (message.problem) view.append(node("p", "problem", message.problem));
  if (message.role === "assistant") {
    tools.append(copyButton(() => message.content), button("Regenerate", () => does.regenerate(message)));
    if (message.cut) tools.append(button("Continue", () => does.proceed(message)));
    tools.append(node("span", "meter", message.stats ? meterText(message.stats) : ""));
  } else {
    tools.append(button("Edit", () => editMessage(view, message, does)), copyButton(() => message.content));
  }
  view.append(tools);
  return view;
}

/* The message in a box; what follows it goes when it is sent again. */
function editMessage(view, message, does) {
  const area = node("textarea");
  const back = () => view.replaceWith(drawMessage(message, does));
  const send = () => { if (area.value.trim()) does.edit(message, area.value.trim()); };
  area.value = message.content;
  area.rows = Math.min(12, Math.max(2, message.content.split("\n").length));
  area.setAttribute("aria-label", "Edit message");
  area.onkeydown = (e) => {
    if (e.key === "Escape") back();
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
  };
  view.classList.add("editing");
  view.replaceChildren(area, node("div", "tools", button("Cancel", back), button("Send again", send, "small")));
  area.focus();
}

/* ---- the list, the empty page ---- */

function drawList(current, running, does) {
  $("chats").replaceChildren(...chatsByAge().flatMap(([name, group]) => [
    node("h2", "", name),
    node("ul", "", ...group.map((c) => {
      const title = c.title || "Untitled", open = button(title, () => does.open(c), "open"), drop = button(icon("close"), () => does.drop(c), "icon drop");
      const li = node("li", (c === current ? "current" : "") + (running.has(c) ? " busy" : ""), open, drop);
      open.title = title;
      drop.setAttribute("aria-label", "Delete " + title);
      return li;
    })),
  ]));
}

const SUGGESTIONS = ["Why is the sky blue?", "Write a Python function that reverses a string.", "Explain gravity to a child.", "Give me three names for a cat."];

function drawEmpty(ask) {
  const mark = node("img");
  mark.src = "/icon.svg";
  mark.alt = "";
  return node("div", "empty", mark, node("h1", "", "What would you like to know?"), node("p", "", "It is answered on this machine, and nowhere else."),
    node("div", "suggestions", ...SUGGESTIONS.map((s) => button(s, () => ask(s), "suggestion"))));
}

/* ---- light and dark ---- */

const THEMES = { auto: "moon", dark: "sun", light: "auto" }; // and the icon of what a click leads to
const NEXT = { auto: "dark", dark: "light", light: "auto" };

function setTheme(theme) {
  if (!THEMES[theme]) theme = "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").replaceChildren(icon(THEMES[theme]));
  $("theme").setAttribute("aria-label", "Theme: " + theme + ". Change to " + NEXT[theme]);
  $("theme").title = $("theme").getAttribute("aria-label");
  return theme;
}

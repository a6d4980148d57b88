"use strict";
/* What this browser remembers: conversations and settings, in localStorage. A conversation is {id, title, at, messages}; a
 * message {role, content, reasoning?, thought_s?, problem?, cut?, stats?}. */

const SETTINGS = ["system", "temperature", "max_tokens", "top_p", "top_k", "min_p", "repetition_penalty", "seed"];
const KEEP = 200; // conversations

const store = {
  get(key, otherwise) {
    try { return JSON.parse(localStorage.getItem("loam." + key)) ?? otherwise; } catch { return otherwise; }
  },
  set(key, value) {
    try { localStorage.setItem("loam." + key, JSON.stringify(value)); return true; } catch { return false; }
  },
};

const isChat = (c) => c && typeof c.title === "string" && Array.isArray(c.messages);
const makeId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 6);
let chats = [];
readChats();

function makeChat() {
  return { id: makeId(), title: "", at: Date.now(), messages: [] };
}

/* What is stored, which another tab may have changed; chats that this tab knows stay the same objects. */
function readChats() {
  const mine = new Map(chats.map((c) => [c.id, c])), stored = store.get("chats", []);
  chats = (Array.isArray(stored) ? stored.filter(isChat) : []).map((c) => {
    const known = mine.get(c.id ??= makeId());
    if (known && (c.at ?? 0) > (known.at ?? 0)) return Object.assign(known, c);
    return known ?? c;
  });
}

/* The newest first. */
function keepChat(chat) {
  readChats();
  chat.at = Date.now();
  chats = [chat, ...chats.filter((c) => c.id !== chat.id)].slice(0, KEEP);
  saveChats();
}

/* Where they no longer fit, the oldest go. */
function saveChats() {
  while (!store.set("chats", chats) && chats.length > 1) chats.pop();
}

function dropChat(chat) {
  readChats();
  chats = chats.filter((c) => c.id !== chat.id);
  saveChats();
}

/* [[heading, chats], ...] by when they were used last. */
function chatsByAge() {
  const today = new Date().setHours(0, 0, 0, 0), day = 86400000, groups = new Map();
  for (const c of chats) {
    const at = c.at ?? 0;
    const name = at >= today ? "Today" : at >= today - day ? "Yesterday" : at >= today - 7 * day ? "This week" : "Earlier";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(c);
  }
  return [...groups];
}

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
let chats = store.get("chats", []);
chats = Array.isArray(chats) ? chats.filter(isChat) : [];

function makeChat() {
  return { id: Date.now().toString(36) + Math.random().toString(36).slice(2, 6), title: "", at: Date.now(), messages: [] };
}

/* The newest first. Where they no longer fit, the oldest go. */
function keepChat(chat) {
  chat.at = Date.now();
  chats = [chat, ...chats.filter((c) => c !== chat)].slice(0, KEEP);
  saveChats();
}

function saveChats() {
  while (!store.set("chats", chats) && chats.length > 1) chats.pop();
}

function dropChat(chat) {
  chats = chats.filter((c) => c !== chat);
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

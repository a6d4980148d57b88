"use strict";
/* Markdown to DOM nodes. Text only ever becomes text nodes: nothing a model writes is parsed as HTML. Covered:
 * headings, paragraphs, lists, quotes, rules, fenced code, tables; code, bold, italic, strike, links to the web. */

const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*([^*]+(?:\*[^*]+)*?)\*\*|__([^_]+)__|~~([^~]+)~~|\*([^*\s][^*]*?)\*|(?<![\w])_([^_\s][^_]*?)_(?![\w])|\[([^\]]+)\]\((https?:\/\/[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)\)|(https?:\/\/[^\s<>()\[\]"']+[^\s<>()\[\]"'.,;:!?])/;

function element(tag, ...children) {
  const e = document.createElement(tag);
  e.append(...children);
  return e;
}

function link(href, ...children) {
  const a = element("a", ...children);
  a.href = href;
  a.target = "_blank";
  a.rel = "noopener noreferrer nofollow";
  return a;
}

function inline(text, depth = 0) {
  const out = document.createDocumentFragment();
  while (text) {
    const m = depth < 8 ? INLINE.exec(text) : null;
    if (!m) {
      out.append(text);
      break;
    }
    out.append(text.slice(0, m.index));
    text = text.slice(m.index + m[0].length);
    if (m[2] !== undefined) out.append(element("code", m[2].replace(/^ (.*) $/, "$1")));
    else if (m[3] ?? m[4]) out.append(element("strong", inline(m[3] ?? m[4], depth + 1)));
    else if (m[5]) out.append(element("del", inline(m[5], depth + 1)));
    else if (m[6] ?? m[7]) out.append(element("em", inline(m[6] ?? m[7], depth + 1)));
    else if (m[8]) out.append(link(m[9], inline(m[8], depth + 1)));
    else out.append(link(m[10], m[10]));
  }
  return out;
}

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function code(lines, language) {
  const pre = element("pre", element("code", highlight(lines.join("\n"), language)));
  if (language) pre.dataset.language = language;
  return pre;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((c) => c.trim());
}

function table(head, rows) {
  const row = (tag, line) => element("tr", ...cells(line).map((c) => element(tag, inline(c))));
  return element("table", element("thead", row("th", head)), element("tbody", ...rows.map((r) => row("td", r))));
}

/* The items of one list from lines[at]; returns the line after it. */
function list(lines, at, out, depth) {
  const first = ITEM.exec(lines[at]), indent = first[1].length, ordered = /\d/.test(first[2]);
  const e = document.createElement(ordered ? "ol" : "ul");
  if (ordered) e.start = parseInt(first[2], 10);
  while (at < lines.length) {
    const m = ITEM.exec(lines[at]);
    if (!m || m[1].length < indent || m[1].length > indent + 1 || /\d/.test(m[2]) !== ordered) break;
    const inner = [m[3]];
    for (at++; at < lines.length; at++) {
      const next = ITEM.exec(lines[at]);
      if (next ? next[1].length <= indent + 1 : lines[at].trim() && !/^\s{2,}/.test(lines[at]) && !lines[at - 1].trim()) break;
      if (!lines[at].trim() && at + 1 < lines.length && lines[at + 1].trim() && !/^\s{2,}/.test(lines[at + 1]) && !ITEM.test(lines[at + 1])) break;
      inner.push(lines[at].replace(/^\s{1,4}/, ""));
    }
    const li = document.createElement("li");
    blocks(inner, li, depth + 1);
    if (li.children.length && li.firstChild.tagName === "P") li.firstChild.replaceWith(...li.firstChild.childNodes);
    e.append(li);
    while (at < lines.length && !lines[at].trim() && at + 1 < lines.length && ITEM.test(lines[at + 1])) at++;
  }
  out.append(e);
  return at;
}

function blocks(lines, out, depth = 0) {
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    let m;
    if (!line.trim()) {
      at++;
    } else if ((m = FENCE.exec(line))) {
      const end = new RegExp("^ {0,3}" + m[2][0] + "{" + m[2].length + ",}\\s*$"), inner = [];
      for (at++; at < lines.length && !end.test(lines[at]); at++) inner.push(lines[at]);
      at++;
      out.append(code(inner, m[3]));
    } else if ((m = HEADING.exec(line))) {
      out.append(element("h" + Math.min(m[1].length, 4), inline(m[2])));
      at++;
    } else if (RULE.test(line)) {
      out.append(document.createElement("hr"));
      at++;
    } else if (ITEM.test(line) && depth < 8) {
      at = list(lines, at, out, depth);
    } else if (QUOTE.test(line) && depth < 8) {
      const inner = [];
      for (; at < lines.length && (m = QUOTE.exec(lines[at])); at++) inner.push(m[1]);
      const q = document.createElement("blockquote");
      blocks(inner, q, depth + 1);
      out.append(q);
    } else if (line.includes("|") && at + 1 < lines.length && TABLE_RULE.test(lines[at + 1]) && lines[at + 1].includes("-")) {
      const rows = [];
      let k = at + 2;
      for (; k < lines.length && lines[k].includes("|"); k++) rows.push(lines[k]);
      out.append(table(line, rows));
      at = k;
    } else {
      const inner = [];
      for (; at < lines.length && lines[at].trim() && !FENCE.test(lines[at]) && !HEADING.test(lines[at]) && !(inner.length && (ITEM.test(lines[at]) || QUOTE.test(lines[at]))); at++)
        inner.push(lines[at]);
      out.append(element("p", inline(inner.join("\n"))));
    }
  }
}

function markdown(text) {
  const out = document.createDocumentFragment();
  blocks(text.replace(/\r\n?/g, "\n").split("\n"), out);
  return out;
}

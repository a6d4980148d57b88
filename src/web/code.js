"use strict";
/* Colours for code: text in, spans of text out. It knows words, strings, numbers and comments, which most languages write
 * alike; what it does not know stays plain. */

const HASH = "py python sh bash zsh shell console rb ruby yaml yml toml r perl pl make makefile dockerfile elixir nix ini conf";
const SLASH = "c h cpp c++ cc cxx cs csharp java js javascript jsx ts typescript tsx go rust rs swift kotlin kt scala php dart zig json jsonc css scss proto";
const DASH = "sql lua haskell hs ada elm";
const KEYWORDS = new Set(("abstract and as assert async await auto begin bool boolean break case catch char class const constexpr continue def default defer del do double " +
  "elif else end enum except export extends extern false False finally float fn for from func function global go goto if impl implements import in include " +
  "inline instanceof int interface is lambda let local long loop match mod module mut namespace new nil None nonlocal not null nullptr of operator or package pass " +
  "pub private protected public raise range ref return self short signed sizeof static str string struct super switch template then this throw throws trait true " +
  "True try type typedef typeof uint8_t uint32_t uint64_t int32_t int64_t size_t undefined union unsigned use using var virtual void volatile when where while with yield " +
  "SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE DROP ALTER JOIN LEFT RIGHT INNER OUTER ON GROUP BY ORDER HAVING LIMIT AS AND OR NOT NULL " +
  "select where insert into values update set delete create table drop join left inner on group by order having limit echo fi done esac").split(" "));

const STRINGS = '"""[\\s\\S]*?(?:"""|$)|' + "'''[\\s\\S]*?(?:'''|$)|" + '"(?:\\\\.|[^"\\\\\\n])*"?|' + "'(?:\\\\.|[^'\\\\\\n])*'?|`(?:\\\\.|[^`\\\\])*`?";
const REST = "(?<n>\\b(?:0[xX][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\w*)|(?<w>[A-Za-z_$][\\w$]*)";

function pattern(comments) {
  return new RegExp("(?<c>" + comments + ")|(?<s>" + STRINGS + ")|" + REST, "g");
}

const PATTERNS = new Map();
for (const [names, comments] of [[HASH, "#[^\\n]*"], [SLASH, "\\/\\/[^\\n]*|\\/\\*[\\s\\S]*?(?:\\*\\/|$)|^[ \\t]*#[a-z]+[^\\n]*"], [DASH, "--[^\\n]*"]])
  for (const name of names.split(" ")) PATTERNS.set(name, pattern(comments));

function highlight(text, language) {
  const out = document.createDocumentFragment(), words = PATTERNS.get((language ?? "").toLowerCase());
  let from = 0;
  const put = (className, piece) => {
    const span = document.createElement("span");
    span.className = className;
    span.textContent = piece;
    out.append(span);
  };
  for (const m of words ? text.matchAll(words) : []) {
    const g = m.groups, end = m.index + m[0].length;
    const kind = g.c ? "c" : g.s ? "s" : g.n ? "n" : KEYWORDS.has(g.w) ? "k" : text[end] === "(" ? "f" : "";
    if (!kind) continue;
    out.append(text.slice(from, m.index));
    put("t-" + kind, m[0]);
    from = end;
  }
  out.append(text.slice(from));
  return out;
}

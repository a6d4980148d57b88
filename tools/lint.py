#!/usr/bin/env python3
"""What no compiler checks: which folder may look at which, what the library exports, what may not stay in a text.

Fails on a broken rule. Long functions, long files, long lines and clang-format's opinion are printed and do not
fail: they are to be looked at, not to be split blindly.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys

# Which folders of src a folder's files may include. What those may include is allowed too; base is for all.
ARROWS = {
    "base": [],
    "file": ["base"],
    "text": ["base", "file"],
    "grammar": ["base"],
    "substrate": ["base"],
    "model": ["substrate", "file"],
    "engine": ["model", "substrate", "text", "grammar"],
    "net": ["base"],
    "api": ["net"],
    "rollout": ["base"],
    "gateway": ["rollout", "net", "base"],
    "store": ["net", "file", "base"],
    "web": ["net"],
    "sandbox": ["base"],
    "cmd": ["api", "gateway", "store", "net", "text", "file", "base", "web", "sandbox"],
}
# loam.h is for all; the seam only for those on its two sides, and for the names of number types.
SEES_THE_SEAM = {"file", "substrate", "model", "engine", "store"}
# A library has one door: the folder whose files may include its headers.
DOORS = {"jansson.h": {"base"}, "pcre2.h": {"text"}, "utf8proc.h": {"text"}, "seccomp.h": {"sandbox"}, "editline/": {"cmd"}, "histedit.h": {"cmd"}}

# Files above src/substrate that may choose by platform: their names say so. err.h asks for a compiler's attribute.
PLATFORM_FILE = re.compile(r"(_linux|_darwin|_posix|_x86|_arm)\.[ch]$|^src/base/(err\.h|system\.c)$")

LINES_OF_A_FUNCTION, LINES_OF_A_FILE, COLUMNS = 70, 600, 110

CPPCHECK = [
    "cppcheck", "--quiet", "--std=c11", "--language=c", "--inline-suppr", "-j2", "--template=gcc",
    "--enable=warning,performance,portability", "-Isrc", "-Iinclude",
    "-DPRIx64=\"lx\"", "-DPRIX64=\"lX\"", "-DPRIo64=\"lo\"", "-DPRIu64=\"lu\"", "-DPRId64=\"ld\"",
    "-DLIST_HEAD(name,type)=void*",  # of headers that it does not read
    "--suppress=missingIncludeSystem",
    "--suppress=zerodivcond:src/text/jinja/*",                # after the check stands loami_j_fail, which does not come
    "--suppress=nullPointerRedundantCheck:src/text/jinja/*",  # back; its attributes hide _Noreturn from cppcheck
    "--suppress=invalidPointerCast:src/substrate/cpu/*",      # scratch memory that several types share in turn, aligned to 64
    "--suppress=negativeIndex:src/substrate/cpu/pick.c",      # a machine without any of the rungs: the loop does not run
    "-isrc/substrate/mlx",                    # C++
    "--suppress=uninitvar",                   # gcc's and clang's own analysis is better, and their warnings are errors here
    "--suppress=duplicateAssignExpression",   # two names that start at the same place are no slip
    "--suppress=arrayIndexOutOfBoundsCond",   # takes `c >= 8 && c <= 13 && t[c - 8] || c == '"'` for one condition
    "--suppress=arrayIndexThenCheck",         # `s[i] && i < 200` reads a terminated string, not past it
    "--suppress=invalidFunctionArg",          # cannot know that a sum of exponentials is never 0
    "--suppress=wrongPrintfScanfArgNum",      # formats chosen from a table; -Wformat checks the others
]

failures = []


def fail(where, what):
    failures.append(f"{where}: {what}")


def reachable(folder):
    seen, todo = {folder, "base"}, list(ARROWS[folder])
    while todo:
        f = todo.pop()
        if f not in seen:
            seen.add(f)
            todo += ARROWS[f]
    return seen


def check_includes(path, lines):
    folder = path.parts[1]
    if folder not in ARROWS:
        fail(path, f"folder {folder} is not in the table of tools/lint.py")
        return
    allowed = reachable(folder)
    for n, line in enumerate(lines, 1):
        m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if not m:
            continue
        name = m[2]
        if m[1] == "<":
            for door, folders in DOORS.items():
                if name.startswith(door) and folder not in folders:
                    fail(f"{path}:{n}", f"<{name}> is included by {', '.join(sorted(folders))} alone")
        elif name == "loam_substrate.h":
            if folder not in SEES_THE_SEAM:
                fail(f"{path}:{n}", f"{folder} does not see the seam")
        elif "/" in name and name.split("/")[0] not in allowed:
            fail(f"{path}:{n}", f"{folder} may not look at {name} (it may at: {', '.join(sorted(allowed))})")


def check_conditionals(path, lines):
    if path.parts[1] == "substrate" or PLATFORM_FILE.search(str(path)):
        return
    guard = next((i for i, line in enumerate(lines) if line.startswith("#ifndef")), None)
    if path.suffix != ".h" or guard is None or not lines[guard + 1].startswith("#define"):
        guard = None
    for i, line in enumerate(lines):
        if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line) and i != guard:
            fail(f"{path}:{i + 1}", f"{line.strip()}: variation belongs below src/substrate or into a file of its own platform")


def check_text(path, lines):
    for n, line in enumerate(lines, 1):
        m = re.search(r"\b(TODO|FIXME|XXX|not implemented)\b", line)
        if m:
            fail(f"{path}:{n}", f"{m[1]} left in the text")
        m = re.search(r"(?<![\w.}>/])/(home|root|work|Users)/\w*", line)
        if m:
            fail(f"{path}:{n}", f"{m[0]}: a path of one machine")
        if line.rstrip() != line:
            fail(f"{path}:{n}", "blanks at the end of the line")


def functions(lines):
    """(name, first line, length) of each function: its braces stand alone in the first column."""
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 3):start])
            names = re.findall(r"(\w+)\(", head)
            yield (names[-1] if names else "?"), start, i - start + 1
            start = None


def check_exports(library):
    out = subprocess.run(["nm", "-g", library], check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        m = re.match(r"[0-9a-f]+ ([A-TV-Z]) _?(\w+)$", line)
        if m and not m[2].startswith(("loam_", "loami_")) and not re.match(r"_*(asan|odr|ubsan)", m[2]):
            fail(library, f"exports {m[2]}, which is neither loam_ nor loami_")


def check_cppcheck():
    """Its findings fail; what it cannot read is only told: old versions stumble over macros and compound literals."""
    said = subprocess.run([*CPPCHECK, "src"], stderr=subprocess.PIPE, text=True).stderr.splitlines()
    found = [line for line in said if re.search(r": (warning|error): .*\[\w+\]$", line)]
    unread = [line for line in found if line.endswith(("[syntaxError]", "[unknownMacro]", "[internalAstError]"))]
    print(f"cppcheck could not read {len(unread)} files" + "".join("\n  " + line[:160] for line in unread))
    for line in found:
        if line not in unread:
            fail("cppcheck", line)


def report_format(files):
    changed = collections.Counter()
    for f in files:
        out = subprocess.run(["clang-format", "--output-replacements-xml", f], stdout=subprocess.PIPE, text=True).stdout
        changed[str(f)] = out.count("<replacement ")
    n = sum(1 for c in changed.values() if c)
    print(f"clang-format would touch {n} of {len(files)} files; most: "
          + ", ".join(f"{f} {c}" for f, c in changed.most_common(5) if c))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", help="libloam.a, to look at its exports")
    args = parser.parse_args()

    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True, stdout=subprocess.PIPE, text=True).stdout
    tracked = [pathlib.Path(p) for p in tracked.splitlines() if pathlib.Path(p).is_file()]
    ours = [p for p in tracked if p.suffix in (".c", ".h", ".inc", ".py", ".sh", ".js", ".css", ".html", ".md") or p.name == "Makefile"
            or p.parts[0] in ("tools", "bench", ".ci")]
    code = [p for p in ours if p.suffix in (".c", ".h")]
    long_functions, long_files, long_lines = [], [], collections.Counter()
    for p in ours:
        lines = p.read_text(encoding="utf-8").splitlines()
        if p.name != "lint.py":
            check_text(p, lines)
        if p in code and p.parts[0] == "src":
            check_includes(p, lines)
            check_conditionals(p, lines)
        if p.suffix in (".c", ".h"):
            long_functions += [(n, f"{p}:{at} {name}") for name, at, n in functions(lines) if n > LINES_OF_A_FUNCTION]
            long_lines[str(p)] = sum(len(line) > COLUMNS for line in lines)
        if len(lines) > LINES_OF_A_FILE:
            long_files.append((len(lines), str(p)))
    for p in tracked:
        if p.stat().st_size > 1 << 20:
            fail(p, "larger than 1 MB")
    if args.library:
        check_exports(args.library)
    check_cppcheck()

    scripts = [p for p in ours if not p.suffix and p.is_file() and p.read_text(encoding="utf-8").startswith("#!/bin/sh")]
    if subprocess.run(["shellcheck", *scripts, *(p for p in ours if p.suffix == ".sh")]).returncode != 0:
        fail("shellcheck", "see above")

    print(f"functions over {LINES_OF_A_FUNCTION} lines: {len(long_functions)}")
    for n, what in sorted(long_functions, reverse=True):
        print(f"  {n:5} {what}")
    print(f"files over {LINES_OF_A_FILE} lines: {len(long_files)}")
    for n, what in sorted(long_files, reverse=True):
        print(f"  {n:5} {what}")
    print(f"lines over {COLUMNS} columns: {sum(long_lines.values())}; most: "
          + ", ".join(f"{f} {c}" for f, c in long_lines.most_common(5) if c))
    report_format(code)
    for f in failures:
        print(f"lint: {f}")
    print(f"lint: {len(failures)} broken rule{'s' * (len(failures) > 1)}" if failures else "lint: all rules hold")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Tokenizer speed beside Hugging Face tokenizers: the same tokenizer.json, the same text, one thread, rounds
interleaved, medians.

    make build/bench/tokenizer
    bench/tokenizer.py [--rounds 7] [--build build] TOKENIZER.json...

Text is made of what this Python has: its own library (code), the documents of its packages (prose), and a page in
many scripts (mixed). "first" is a new tokenizer's first encode, "again" a second one of the same text."""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import sysconfig
import time

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
from tokenizers import Tokenizer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from golden.texts import REAL  # noqa: E402

SIZE = 1_000_000


def gather(paths):
    text, size = [], 0
    for path in sorted(paths):
        try:
            page = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        text.append(page)
        size += len(page.encode())
        if size >= SIZE:
            break
    return "".join(text).encode()[:SIZE].decode(errors="ignore")


def texts():
    library, packages = (pathlib.Path(sysconfig.get_path(p)) for p in ("stdlib", "purelib"))
    rng = random.Random(1)
    words = [w for page in REAL[2:7] for w in page.split()]
    mixed = " ".join(rng.choice(words) for _ in range(SIZE // 8)).encode()[:SIZE].decode(errors="ignore")
    prose = [p for kind in ("METADATA", "*.rst", "*.md", "*.txt") for p in packages.rglob(kind)]
    return {"code": gather(library.glob("*.py")), "prose": gather(prose), "mixed": mixed}


class Loam:
    def __init__(self, program, path, text):
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        data = text.encode()
        self.process.stdin.write(b"%d\n" % len(data) + data)

    def round(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        *seconds, count = self.process.stdout.readline().split()
        return [float(s) for s in seconds], int(count)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def reference(path, text):
    marks = [time.perf_counter()]
    t = Tokenizer.from_file(str(path))
    marks.append(time.perf_counter())
    for _ in range(2):
        count = len(t.encode(text, add_special_tokens=False).ids)
        marks.append(time.perf_counter())
    return [b - a for a, b in zip(marks, marks[1:])], count


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    args.add_argument("files", nargs="+", type=pathlib.Path)
    args.add_argument("--rounds", type=int, default=7)
    args.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    args = args.parse_args()
    print("| tokenizer | text | open ms, loam / tokenizers | first MB/s | ratio | again MB/s | ratio |\n|---|---|---|---|---|---|---|")
    for path in args.files:
        for name, text in texts().items():
            ours, theirs = [], []
            loam = Loam(args.build / "bench" / "tokenizer", path, text)
            for _ in range(args.rounds):
                seconds, count = loam.round()
                ours.append(seconds)
                seconds, want = reference(path, text)
                theirs.append(seconds)
                if count != want:
                    sys.exit(f"{path} on {name}: {count} tokens, the reference has {want}")
            loam.close()
            (o, f, a), (ro, rf, ra) = ([statistics.median(s) for s in zip(*rows)] for rows in (ours, theirs))
            size = len(text.encode()) / 1e6
            print(f"| {path.stem} | {name} | {o * 1e3:.0f} / {ro * 1e3:.0f} | {size / f:.1f} / {size / rf:.1f} | {rf / f:.1f} "
                  f"| {size / a:.1f} / {size / ra:.1f} | {ra / a:.1f} |", flush=True)


main()

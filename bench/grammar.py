#!/usr/bin/env python3
"""What a grammar costs: the time of a mask, and of decoding with one.

    make all build/tests/golden/grammar
    bench/grammar.py [--rounds 5] [--build build] [--model FOLDER] TOKENIZER.json...

Masks: texts of a schema of 20 fields, made by random choices among what the masks allow; the thread's own time per mask,
over several texts of one compiled grammar's first use and later ones. Decoding: `loam generate` greedily and with temperature 1,
with the schema and without, interleaved; medians of tokens per second."""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 150}, {"enum": ["red", "green", "blue"]}, {"type": "string", "maxLength": 40},
         {"type": "array", "items": {"type": "string"}, "maxItems": 4}, {"type": "boolean"}, {"type": "number"},
         {"type": "string", "format": "date"}, {"anyOf": [{"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, {"type": "null"}]},
         {"type": "object", "properties": {"lat": {"type": "number", "minimum": -90, "maximum": 90}, "name": {"type": "string"}}, "required": ["lat", "name"]}]
NAMES = ["name", "age", "colour", "nickname", "tags", "active", "score", "born", "code", "place"]
SCHEMA = {"type": "object", "properties": {f"{n}{i or ''}": k for i in range(2) for n, k in zip(NAMES, KINDS, strict=True)}}
SCHEMA["required"] = list(SCHEMA["properties"])


def masks(build, tokenizer):
    lines = "\n".join(json.dumps({"kind": "json_schema", "source": SCHEMA, "seed": i, "most": 400}) for i in range(20)) + "\n"
    done = subprocess.run([f"{build}/tests/golden/grammar", tokenizer], input=lines, text=True, capture_output=True, check=True)
    got = [json.loads(line) for line in done.stdout.split("\n") if line]
    print(f"{tokenizer}: {done.stderr.strip()}")
    print(f"  {sum(g['tokens'] for g in got)} tokens; mask: median {statistics.median(g['mask_us'] for g in got):.1f} us, mean {statistics.mean(g['mask_us_mean'] for g in got):.1f} us, "
          f"p99 {statistics.median(g['mask_us_p99'] for g in got):.0f} us, most {max(g['mask_us_most'] for g in got):.0f} us; "
          f"compile {statistics.median(g['compile_us'] for g in got) / 1e3:.2f} ms; {max(g['bytes'] for g in got) / 1e6:.1f} MB a grammar")


def decode(build, model, rounds):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(SCHEMA, f)
        f.flush()
        for heat in (0, 1):
            rates = {"free": [], "schema": []}
            for i in range(rounds):
                for name in ("free", "schema") if i % 2 else ("schema", "free"):
                    how = ["--json-schema", f.name] if name == "schema" else ["--ignore-eos"]
                    out = subprocess.run([f"{build}/loam", "generate", "--model", model, "--prompt", "Describe a person in JSON.", "--json", "-n", "200", "--temp", str(heat),
                                          "--seed", "1", *how], capture_output=True, text=True, check=True)
                    rates[name].append(json.loads(out.stdout)["generation_tps"])
            free, held = (statistics.median(rates[n]) for n in ("free", "schema"))
            print(f"decode, temperature {heat}: {free:.1f} tokens/s free, {held:.1f} with the schema: {(free / held - 1) * 100:+.1f} % a token (best: {(max(rates['free']) / max(rates['schema']) - 1) * 100:+.1f} %)")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--build", default=str(ROOT / "build"))
    p.add_argument("--model", help="a model folder, to decode with")
    p.add_argument("tokenizer", nargs="*", help="tokenizer.json, or a model folder")
    args = p.parse_args()
    for t in args.tokenizer:
        masks(args.build, t)
    if args.model:
        decode(args.build, args.model, args.rounds)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Puts what `make bench` has measured last into the README and its picture.

publish.py             keeps the figures of target/bench.json in tests/bench/figures.json, draws tests/bench/bench.svg,
                       and writes those rows of the README's table that `make bench` measures; to be committed
publish.py --check     whether the README has the figures of tests/bench/figures.json, and shows their picture
"""

import hashlib
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "../..")
README = os.path.join(TOP, "README.md")
FIGURES, PICTURE = (os.path.join(HERE, name) for name in ("figures.json", "bench.svg"))
SHOWN = "(tests/bench/bench.svg)"

MEASURED_BY = "| `make bench` |"
WITH, WITHOUT, SCRIPT = "with the cache", "without the cache", "script"


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def times(ratio):
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 0.095 else f"{ratio:.2f}"


def table(figures):
    """The README's rows."""
    found = {tuple(record[:3]): record[3:] for record in figures}
    waits, rates = {}, {}
    for name in (WITH, WITHOUT, SCRIPT):
        waits[name] = times(found["Postfix", name, 1][3])
        rates[name] = times(found["Postfix", name, 50][2])
    memory, = found["memory", "the service alone", 1000]
    dead, = found["silent servers", "together", 1000]
    beside = "{} with the cache, {} without it, {} for a shell script"
    cells = [
        ("memory of the service for Postfix, after 1,000 questions", f"{memory} KiB"),
        ("how long a client waits for Postfix to answer RCPT, as a multiple of that with a constant answer",
         beside.format(waits[WITH], waits[WITHOUT], waits[SCRIPT])),
        ("recipients a second through Postfix with 50 clients, as a multiple of those with a constant answer",
         beside.format(rates[WITH], rates[WITHOUT], rates[SCRIPT])),
        ("time that 1,000 dead servers take", f"{dead:.2f} timeouts"),
    ]
    return [f"| {what} | {value} {MEASURED_BY}" for what, value in cells]


def written():
    """The README's rows, as they are."""
    return [line for line in read(README).splitlines() if line.endswith(MEASURED_BY)]


def publish():
    # Four digits are more than enough.
    figures = json.loads(read(os.path.join(TOP, "target/bench.json")),
                         parse_float=lambda digits: float(f"{float(digits):.4g}"))["figures"]
    try:
        rows = table(figures)
    except KeyError as missing:
        sys.exit(f"publish: not measured: {missing}")
    text = read(README)
    old = "\n".join(written())
    if not old or old not in text:
        sys.exit(f"publish: the README has no rows that end in {MEASURED_BY}, one after another")
    new = FIGURES + ".new"
    with open(new, "w", encoding="utf-8") as file:
        file.write('{"figures": [\n' + ",\n".join(map(json.dumps, figures)) + "\n]}\n")
    # First what may fail.
    subprocess.run([os.path.join(HERE, "picture.py"), new, PICTURE], check=True)
    os.replace(new, FIGURES)
    with open(README, "w", encoding="utf-8") as file:
        file.write(text.replace(old, "\n".join(rows)))


def check():
    expected = table(json.loads(read(FIGURES))["figures"])
    if written() != expected:
        sys.exit("publish: the README and tests/bench/figures.json differ; the figures are\n" + "\n".join(expected))
    if SHOWN not in read(README) or not os.path.exists(PICTURE):
        sys.exit(f"publish: the README does not show {SHOWN}, or there is no such picture")
    if hashlib.sha256(read(FIGURES).encode()).hexdigest() not in read(PICTURE):
        sys.exit("publish: the picture is not that of tests/bench/figures.json")


def main():
    match sys.argv[1:]:
        case []:
            publish()
        case ["--check"]:
            check()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()

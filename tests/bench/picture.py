#!/usr/bin/python3
"""Draws what `make bench` has measured.

picture.py FIGURES SVG     FIGURES is target/bench.json, or tests/bench/figures.json

It needs matplotlib, as Debian's python3-matplotlib; nothing else does. The same figures give the same bytes, with the
same matplotlib.
"""

import hashlib
import io
import json
import re
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.hashsalt": "smtpdcheck",
    # Text stays text: small, and it can be searched. The page's own font is as good.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 19,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "text.color": "#222222",
    # Dark pages, too.
    "figure.facecolor": "white",
    "axes.facecolor": "white",
})

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402

# Of each name in the figures: how it is called here, its colour (Okabe and Ito: they differ to everybody), line and dots.
LINES = {
    "static": ("no gate: static 450", "#777777", ":", "s"),
    "constant": ("constant answer", "#444444", "--", "D"),
    "with the cache": ("smtpdcheck + cache", "#0072b2", "-", "o"),
    "without the cache": ("smtpdcheck", "#009e73", "-", "o"),
    "script": ("shell script", "#d55e00", "-", "^"),
}
OURS = ("with the cache", "without the cache")
# The least distance between labels, as a part of the axis.
APART = 0.085

RATE, WAIT = 3, 4  # where they stand in a list of figures


def number(value, _=None):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def spread(places):
    """Moves places that are too close to one another apart, keeping their order and their middle."""
    groups = []
    for place in sorted(places):
        groups.append([place])
        while len(groups) > 1 and bottom(groups[-1]) - top(groups[-2]) < APART:
            last = groups.pop()
            groups[-1] += last
    moved = [bottom(group) + i * APART for group in groups for i in range(len(group))]
    ranks = sorted(range(len(places)), key=places.__getitem__)
    return [moved[ranks.index(i)] for i in range(len(places))]


def bottom(group):
    return sum(group) / len(group) - APART * (len(group) - 1) / 2


def top(group):
    return bottom(group) + APART * (len(group) - 1)


def prepare(axes, title, below, unit, x_ticks, y_limits, y_ticks):
    axes.set_title(title)
    axes.text(0, 1.035, below, transform=axes.transAxes, fontsize=8.5, color="#555555")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(*y_limits)
    axes.set_xticks(x_ticks)
    axes.set_yticks(y_ticks)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(number))
    axes.tick_params(length=0, pad=5)
    axes.set_xlabel(unit, loc="left", color="#555555", fontsize=8.5)


def load(axes, figures, server, place, title, below, y_ticks, scale=1):
    """A line for each program, against the sessions, with its name at the end."""
    lines = {name: [(found[2], found[place] * scale) for found in figures if found[:2] == [server, name]]
             for name in LINES}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        axes.set_axis_off()
        axes.set_title(f"{title}: not measured")
        return
    sessions = [x for x, _ in next(iter(lines.values()))]
    values = [y for points in lines.values() for _, y in points]
    limits = min(values) * 0.7, max(values) * 1.9
    prepare(axes, title, below, "sessions at the same time", sessions, limits,
            [tick for tick in y_ticks if limits[0] <= tick <= limits[1]])
    axes.set_xlim(sessions[0] * 0.85, sessions[-1] * 1.1)
    ends = []
    for name, points in lines.items():
        _, colour, line, dot = LINES[name]
        axes.plot(*zip(*points), color=colour, linestyle=line, marker=dot, markersize=4.5,
                  linewidth=2.2 if name in OURS else 1.4, zorder=3 if name in OURS else 2)
        ends.append(axes.transAxes.inverted().transform(axes.transData.transform(points[-1]))[1])
    for name, y in zip(lines, spread(ends)):
        label, colour, *_ = LINES[name]
        axes.text(1.03, y, label, transform=axes.transAxes, color=colour, verticalalignment="center",
                  fontweight="bold" if name in OURS else "normal")


def silent(axes, figures):
    counts = [1, 10, 100, 1000]
    prepare(axes, "Time for dead servers", "in timeouts; less is better", "servers that do not answer", counts, (0.7, 1400), counts)
    axes.set_xlim(0.85, 1100)
    together, one_by_one = ([(found[2], found[3]) for found in figures if found[:2] == ["silent servers", way]]
                            for way in ("together", "one by one"))
    colour = LINES["script"][1]
    axes.plot(counts, counts, color=colour, linestyle="--", linewidth=1.4)
    axes.plot(*zip(*one_by_one), color=colour, linestyle="", marker="^", markersize=4.5)
    axes.plot(*zip(*together), color=LINES[OURS[0]][1], marker="o", markersize=4.5, linewidth=2.2, zorder=3)
    axes.text(1.03, 0.965, "one after another", transform=axes.transAxes, color=colour, verticalalignment="center")
    axes.text(1.03, 0.875, "(dashed: computed)", transform=axes.transAxes, color=colour, verticalalignment="center",
              fontsize=8.5)
    axes.text(1.03, 0.047, "smtpdcheck", transform=axes.transAxes, color=LINES[OURS[0]][1], fontweight="bold",
              verticalalignment="center")


def draw(figures, origin, path):
    figure = Figure(figsize=(9.4, 6.4))
    (rate, wait), (filter_rate, dead) = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.062, right=0.832, top=0.905, bottom=0.075, wspace=0.78, hspace=0.55)
    rates = [10, 30, 100, 300, 1000, 3000, 10000]
    more = "more is better"
    load(rate, figures, "Postfix", RATE, "Postfix: recipients a second", more, rates)
    load(wait, figures, "Postfix", WAIT, "Postfix: wait for an answer", "milliseconds; less is better",
         [0.01, 0.1, 1, 10, 100, 1000], 1000)
    load(filter_rate, figures, "OpenSMTPD", RATE, "OpenSMTPD: recipients a second", more, rates)
    silent(dead, figures)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={
        "Date": None, "Title": "smtpdcheck, measured by make bench", "Source": f"sha256 of the figures: {origin}",
    })
    # Half of it would be blanks, turns by no degrees, and digits that nobody can see.
    text = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", drawn.getvalue())
    text = re.sub(r"\b\d+\.\d{3,}\b", lambda found: f"{float(found[0]):.2f}", text)
    text = re.sub(r"^ +| +$", "", text, flags=re.M)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    draw(json.loads(text)["figures"], hashlib.sha256(text.encode()).hexdigest(), sys.argv[2])


if __name__ == "__main__":
    main()

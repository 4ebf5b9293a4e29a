"""Draw what benchmarks.datapath measured: throughput in each cell, as a fraction of blkverify's.

python -m benchmarks.chart IN.json OUT.png
"""

import json
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure

LOOKS = {
    "blkbox": ("#0072B2", ""),
    "blkbox alone": ("#56B4E9", ".."),
    "qemu-nbd": ("#BBBBBB", ""),
    "nbdkit log": ("#E69F00", "////"),
}
"""Colour (Okabe and Ito's) and hatch of each program. Hatches survive printing without colour."""


def draw(iops: dict[str, dict[str, list[float]]]) -> Figure:
    """Return bars of medians, whiskers from the lowest to the highest round, and a line for
    blkverify. ``iops``: cell, then program, then one figure per round, in requests per second."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.add_subplot()
    peers = [name for name in LOOKS if name in next(iter(iops.values()))]
    width = 0.8 / len(peers)
    for index, name in enumerate(peers):
        colour, hatch = LOOKS[name]
        places = [cell + (index - (len(peers) - 1) / 2) * width for cell in range(len(iops))]
        ratios = []
        for rates in iops.values():
            base = statistics.median(rates["blkverify"])
            ratios.append([rate / base for rate in rates[name]])
        middle = [statistics.median(values) for values in ratios]
        low = [m - min(values) for m, values in zip(middle, ratios, strict=True)]
        high = [max(values) - m for m, values in zip(middle, ratios, strict=True)]
        axes.bar(
            places, middle, width, label=name, color=colour, hatch=hatch, edgecolor="black", lw=0.6
        )
        axes.errorbar(
            places, middle, [low, high], fmt="none", ecolor="black", elinewidth=0.8, capsize=2
        )
        for place, value in zip(places, middle, strict=True):
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.annotate(
                f"{value:.2f}", (place, 0.06), ha="center", size=8, rotation=90, bbox=ground
            )
    axes.axhline(1, color="#D55E00", lw=1.5, label="blkverify")
    axes.set_xticks(range(len(iops)), [cell.replace(" depth", "\ndepth") for cell in iops])
    axes.set_ylabel("throughput / blkverify's")
    axes.set_title(
        "The data path against its peers (fio's nbd engine; qemu-nbd does not verify)", loc="left"
    )
    axes.legend(ncols=4, frameon=False, loc="upper left")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Read the figures and write the picture."""
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text())["iops"]).savefig(target, dpi=150)
    print(f"chart: {target}")


if __name__ == "__main__":
    main()

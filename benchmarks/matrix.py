"""How well a matrix uses the machine: the sum of the times of its cells, against the time that its
processes had (jobs x wall).

    python -m benchmarks.matrix [--cells 200] [--jobs 2] [--ops 2000] [--driver D]...
        [--dask ADDRESS]

The rest is what it costs to start processes, to look at builds, to hand out cells and to keep
results, and that at the end one process has nothing left to do. The goal is 0.9.
"""

import argparse
import json
import tempfile
from pathlib import Path

import blkbox

GOAL = 0.9

DRIVERS = ("raw", "qcow2", "vmdk", "qed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--ops", type=int, default=2000)
    parser.add_argument("--driver", action="append", default=[])
    parser.add_argument("--dask")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    drivers = options.driver or list(DRIVERS)
    seeds = range(1, options.cells // len(drivers) + 1)
    with tempfile.TemporaryDirectory() as folder:
        found = blkbox.matrix(
            drivers=drivers, seeds=seeds, ops=options.ops, jobs=options.jobs, dask=options.dask,
            out=Path(folder) / "matrix",
        )  # fmt: skip
    cells = [cell.seconds for cell in found.cells]
    efficiency = sum(cells) / (options.jobs * found.seconds)
    result = {
        "cells": len(cells), "jobs": options.jobs, "wall_s": round(found.seconds, 2),
        "cells_s": round(sum(cells), 2), "longest_s": max(cells),
        "efficiency": round(efficiency, 3), "goal": GOAL,
        "verdicts": {str(kind): count for kind, count in found.tally.items()},
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Draw the pictures of docs/plots.md, from the demo's trace and its defective driver.

python -m benchmarks.pictures [FOLDER]
"""

import sys
from pathlib import Path

import blkbox
from analysis import plots
from blkbox.draw import OF_A_TRACE

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo"


def main(folder: Path) -> None:
    """Draw one picture of each kind into a folder."""
    with blkbox.open(DEMO / "install.trace") as trace:
        figures = {kind: blkbox.plot(kind, trace) for kind in OF_A_TRACE}
        verdict = blkbox.replay(trace.path, driver=DEMO / "defective.toml")
        figures["damage"] = plots.damage(trace, verdict)
    for kind, figure in figures.items():
        path = folder / f"{kind}.png"
        path.write_bytes(plots.small_png(figure))
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")

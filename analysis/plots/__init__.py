"""Pictures for bug reports. Each function takes a trace and returns a matplotlib Figure.

    plots.timeline(trace)
    plots.timeline(trace, ops=trace.ops.filter(kind="write"), sectors=range(2048, 4096))
    plots.latency(trace, ax=axes)

They need no display: nothing here uses pyplot. docs/plots.md says how to read each picture.
"""

from analysis.plots.below import below
from analysis.plots.damage import damage
from analysis.plots.ecdf import ecdf
from analysis.plots.grid import grid
from analysis.plots.heatmap import heatmap
from analysis.plots.latency import latency
from analysis.plots.sizes import sizes
from analysis.plots.style import check_dpi, save, small_png
from analysis.plots.throughput import throughput
from analysis.plots.timeline import timeline

__all__ = [
    "READS", "below", "check_dpi", "damage", "ecdf", "grid", "heatmap", "latency", "save", "sizes",
    "small_png", "throughput", "timeline",
]  # fmt: skip

READS = {
    "below": 4,
    "damage": 3,
    "heatmap": 4,
    "latency": 4,
    "sizes": 1,
    "throughput": 4,
    "timeline": 2,
}
"""About how often each picture reads the ops: the unit of its progress bar."""

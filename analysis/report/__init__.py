"""A page for a bug report: what a replay found, or what a recording did.

Everything that is shown comes from the verdict and the trace, and is escaped (``markup``). Nothing that
either names is opened, run or connected to.
"""

from analysis.report.on_trace import of_trace
from analysis.report.on_verdict import of_verdict

__all__ = ["STEPS", "of_trace", "of_verdict"]

STEPS = 4
"""How often each page tells that it has got further."""

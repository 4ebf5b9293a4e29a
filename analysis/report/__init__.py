"""A page for a bug report: what a replay found, or what a recording did.

Everything that is shown comes from the verdict and the trace, and is escaped (``markup``). Nothing that
either names is opened, run or connected to.
"""

from analysis.report.on_trace import of_trace
from analysis.report.on_verdict import of_verdict

__all__ = ["READS", "of_trace", "of_verdict"]

READS = 12
"""How often a page reads its trace, at most: what its progress is counted in. The ops are sought, the
picture takes three, each of three histories two, the tables the rest."""

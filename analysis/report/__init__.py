"""An HTML page for a bug report: what a replay found, or what a recording did.

All content comes from the verdict and the trace, and is escaped (``markup``). Nothing that they
name is opened, run or connected to.
"""

from analysis.report.on_trace import of_trace
from analysis.report.on_verdict import of_verdict

__all__ = ["READS_OF_TRACE", "READS_OF_VERDICT", "of_trace", "of_verdict"]

READS_OF_VERDICT = 12
"""How often a page about a verdict reads its trace at most: the unit of its progress bar. The
picture reads it three times, each of three histories twice; the search for ops and the tables do
the rest."""

READS_OF_TRACE = 22
"""The same for a page about a recording: three pictures read it ten times, the tables five."""

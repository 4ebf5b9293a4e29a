"""From a failing trace to the fewest, smallest ops that still show the fault.

``part.py`` has a part of a trace, ``slices.py`` the parts to try first, ``reduce.py`` delta
debugging; ``program.py`` has ops that can be changed, ``passes.py`` the changes; ``lab.py`` does
the tests, ``odds.py`` says how many a fault needs that does not always show, ``shrink.py`` leads.
"""

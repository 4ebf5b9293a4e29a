"""Find bugs in a driver without a guest: generate traces, replay them, keep what goes wrong.

``variants.py`` has the sets of options per format, ``trial.py`` one trace on one driver,
``fault.py`` what tells faults apart, ``folder.py`` what stays on the disk, ``session.py`` the hunt.
"""

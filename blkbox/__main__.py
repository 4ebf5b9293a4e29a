"""``python -m blkbox`` runs the command ``trace``."""

import sys
from pathlib import Path

# Python searches the current folder first, and would import a user's folder "analysis" in place of
# ours. Keep the folder only if it contains this package: then this runs from a checkout.
if Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from blkbox.main import main

main()

"""``python -m blkbox`` is ``trace``."""

import sys
from pathlib import Path

# Python puts the current folder first, and a user's own folder "analysis" would be taken for ours.
# Keep it only if this package is in it: then it runs from a checkout.
if Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from blkbox.main import main

main()

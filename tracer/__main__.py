"""``python -m tracer`` is ``trace``."""

from tracer.main import main

main()

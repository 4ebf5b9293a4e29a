"""Every trace on every build.

``sources.py`` lists the traces, ``survey.py`` and ``fingerprint.py`` tell versions of traces and
builds apart, ``cell.py`` runs one trace on one build, ``folder.py`` keeps results, ``running.py``
is the matrix. ``screen.py`` and ``artifacts.py`` show it.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, which the API offers as the function ``blkbox.matrix`` too: Python binds a
    package's name in its parent once a part of it is imported, whatever else had that name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from blkbox.matrix.api import matrix

        return matrix(*arguments, **options)


sys.modules[__name__].__class__ = _Callable

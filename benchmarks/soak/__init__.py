"""Long checks of what blkbox promises, one module each. Each prints what it did, or fails.

    python -m benchmarks.soak overlap [--ops N] [--driver D]    no false difference under overlap
    python -m benchmarks.soak kill [--rounds N]                 SIGKILL loses no acknowledged op
    python -m benchmarks.soak slow                              memory is bounded on a slow driver
    python -m benchmarks.soak traces [--mutations N]            no file crashes a verb that reads it

The first three use ``trace record``. In the first two the guest has DEPTH requests in flight. A new
check is a module with ``add_options`` and ``run``, and its name in CHECKS in ``__main__``.
"""

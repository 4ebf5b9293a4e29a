"""A seed becomes a trace: profiles say what may be drawn, features what a seed drew, ``traffic``
makes the ops, and ``writing`` the trace."""

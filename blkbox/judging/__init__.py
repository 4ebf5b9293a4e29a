"""From a trace and a driver to a verdict: where ``replay`` and ``analysis`` meet."""

"""Run one of the checks."""

import argparse
import importlib
import resource

CHECKS = ("overlap", "kill", "slow", "traces")
"""The checks. Each is a module of this package."""


def main() -> None:
    """Run the check that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    checks = parser.add_subparsers(metavar="CHECK", required=True)
    for name in CHECKS:
        check = importlib.import_module(f"benchmarks.soak.{name}")
        what = str(check.__doc__).splitlines()[0]
        options = checks.add_parser(name, help=what, description=what)
        check.add_options(options)
        options.set_defaults(run=check.run)
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    chosen.run(chosen)


if __name__ == "__main__":
    main()

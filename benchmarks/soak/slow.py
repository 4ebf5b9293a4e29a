"""Memory must be bounded while the driver is slow."""

import argparse
import tempfile
from pathlib import Path

from benchmarks.datapath import fio
from benchmarks.peers import blkbox, peak_memory


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this check: none."""


def run(_: argparse.Namespace) -> None:
    """Run the check."""
    slow()


def slow() -> None:
    """Keep 256 MiB of writes in flight on a driver that takes 0.2 s for each.

    The recorder's peak memory must stay below 200 MiB.
    """
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as folder:
        driver = Path(folder) / "slow.toml"
        driver.write_text(
            'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "--filter=delay", '
            '"file", "{image}", "wdelay=200ms"]'
        )
        with blkbox(Path(folder), "256M", "--driver", str(driver)) as (socket, pid):
            requests, _ = fio(socket, "write", "1M", 256, 10)
            memory = peak_memory(pid)
    assert memory < 200 << 20, f"{memory >> 20} MiB"
    print(
        f"slow: {requests:,.0f} writes of 1 MiB/s on a slow driver; peak memory {memory >> 20} MiB"
    )

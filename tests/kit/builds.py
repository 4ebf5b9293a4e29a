"""Builds for matrices and hunts: drivers that are good, that lose writes, that crash or hang."""

from pathlib import Path

from tests.kit.drivers import toml

PLUGIN = """
import nbdkit, os, time

API_VERSION = 2

def config(key, value):
    global disk
    disk = os.open(value, os.O_RDWR)

def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS

def open(readonly):
    return 1

def get_size(h):
    return os.fstat(disk).st_size

def pread(h, buf, offset, flags):
    buf[:] = os.pread(disk, len(buf), offset)

def pwrite(h, buf, offset, flags):
    DEFECT
    os.pwrite(disk, buf, offset)

def flush(h, flags):
    os.fdatasync(disk)
"""

DEFECTS = {
    "good": "pass",
    "loses": "if offset % 65536 == 0: return",
    "crashes": "if offset > 65536: os.kill(os.getpid(), 11)",
    "waits": """os.close(os.open(f"HOME/waits-{os.getpid()}", os.O_CREAT | os.O_RDWR))
    while not os.path.exists("HOME/go"): time.sleep(0.01)""",
    "hangs": "if offset > 65536: time.sleep(3600)",
}
"""By the name of a build, what its writes do first, in Python. One that waits says so in its own
folder, and goes on when ``go`` is there."""

CREATE = ["truncate", "-s", "{size}", "{image}"]

KILLS = 'truncate -s "$2" "$1"; if grep -q executor "/proc/$PPID/cmdline"; then kill -9 "$PPID"; fi'
"""Makes an image, and kills the process that asked for it if that one runs a job."""


def build(folder: Path, name: str, defect: str | None = None) -> str:
    """A build in a folder of its own in ``folder``; its ``--driver``."""
    home = folder / name
    home.mkdir()
    plugin = home / "plugin.py"
    plugin.write_text(PLUGIN.replace("DEFECT", DEFECTS[defect or name]).replace("HOME", str(home)))
    toml(home, name=name, create=CREATE,
         serve=["nbdkit", "-f", "-U", "{socket}", "python", "{here}/plugin.py", "image={image}"],
         )  # fmt: skip
    return f"{name}/mine.toml"


def killing(folder: Path) -> str:
    """A build that kills the process that tests it; its ``--driver``."""
    (folder / "kills").mkdir()
    toml(folder / "kills", create=["sh", "-c", KILLS, "sh", "{image}", "{size}"],
         serve=["nbdkit", "-f", "-U", "{socket}", "file", "{image}"])  # fmt: skip
    return "kills/mine.toml"

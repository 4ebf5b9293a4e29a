"""What a hunt leaves on the disk: ``hunt.json``, and a folder for each fault.

A hunt that is started again on its folder goes on where it was.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from tracer.errors import UsageError
from tracer.files import write_whole

STATE = "hunt.json"

FAULTS = "faults"

MAX_SLUG = 40
"""Characters of a fault's folder name that say what it is."""


@dataclass(slots=True)
class Fault:
    """A fault that was found: the first trace that showed it."""

    key: str
    """What tells it from others."""
    driver: str
    """The driver with its options, in words."""
    seed: int
    """The seed of the first trace that showed it."""
    folder: str
    """The folder with its trace, verdict and report, in the hunt's folder."""
    reason: str
    culprit: str | None = None
    small: int | None = None
    """The ops of its minimised trace; None if there is none."""
    seen: int = 1
    """How many traces showed it."""
    seconds: float = 0.0
    """How long the hunt had run when it was found."""


@dataclass(slots=True)
class Tally:
    """What was run on one target."""

    seeds: int = 0
    ops: int = 0
    faulty: int = 0
    """Traces that showed a fault."""
    undecidable: int = 0
    """Traces that could not be run, and why the last of them could not."""
    why: str = ""


@dataclass(slots=True)
class State:
    """All that a hunt knows."""

    profile: str
    ops: int
    """Ops in each trace."""
    seed: int
    """The first seed."""
    next: int
    """The next seed."""
    seconds: float = 0.0
    """How long the hunt has run."""
    interrupted: str | None = None
    """The signal that ended it before its time; None: none did."""
    targets: dict[str, Tally] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    schema: int = 1

    def fault(self, key: str) -> Fault | None:
        """Return the fault with this key."""
        return next((one for one in self.faults if one.key == key), None)


def open_folder(folder: Path, fresh: State) -> State:
    """Return the state of the hunt in a folder, or ``fresh`` if there is none yet.

    Raises UsageError if the folder has something else in it, or a hunt of other options.
    """
    path = folder / STATE
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is not empty and has no {STATE}: give a new folder")
        return fresh
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path} is not the state of a hunt: {error}") from error
    for name in ("profile", "ops", "seed"):
        if getattr(state, name) != getattr(fresh, name):
            raise UsageError(
                f"{folder} has a hunt with --{name} {getattr(state, name)}: go on with that, or "
                "give a new folder"
            )
    return state


def save(folder: Path, state: State) -> None:
    """Write the state, whole or not at all. Raises StorageError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / STATE, f"{json.dumps(asdict(state), indent=2)}\n".encode())


def new_fault(state: State, key: str) -> str:
    """Return the name of the folder for a new fault: ``faults/003-damaged-data-stale``."""
    slug = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:MAX_SLUG].strip("-")
    return f"{FAULTS}/{len(state.faults) + 1:03d}-{slug}"

"""What to record, and what came of it."""

from dataclasses import dataclass, field
from pathlib import Path

from tracer.driver import Driver
from tracer.errors import Exit
from tracer.op import TrimRule


@dataclass(slots=True)
class Plan:
    """What to record. Sizes are bytes."""

    trace: Path
    driver: Driver
    raw: Path | None = None
    image: Path | None = None
    size: int = 16 << 30
    listen: str | None = None
    allow_remote: bool = False
    payloads: str = "full"
    on_mismatch: str = "stop"
    trim: TrimRule = TrimRule.ANY
    once: bool = False
    trust_start: bool = False
    sync: bool = False
    force: bool = False
    command: list[str] = field(default_factory=list)
    guest_stdout: int | None = None


@dataclass(slots=True)
class Recording:
    """What came of it."""

    verdict: str
    reason: str
    trace: str
    driver: str
    size: int
    ops: dict[str, int]
    bytes: dict[str, int]
    mismatches: list[dict[str, object]]
    damage: list[dict[str, int]]
    trace_bytes: int
    payload_bytes: int
    connections: int
    guest_exit: int | None
    schema: int = 1

    @property
    def exit_code(self) -> int:
        if self.verdict in ("damaged", "failed"):
            return Exit.BAD_DRIVER
        return Exit.UNDECIDABLE if self.verdict == "undecidable" else Exit.CLEAN

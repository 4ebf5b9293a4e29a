"""What to record."""

from dataclasses import dataclass, field
from pathlib import Path

from tracer.driver import Driver
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

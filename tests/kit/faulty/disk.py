"""A raw image that goes wrong in one known way: what the server and the nbdkit plugin have in
common.

It runs in nbdkit's own Python too: nothing but the standard library and ``tracer.op`` here.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tracer.op import Kind

KIB = 1024
CLUSTER = 64 * KIB
"""Bytes: the unit in which most image formats allocate by default, so where their bugs have
edges."""


@dataclass(frozen=True)
class Request:
    """What a client asks for; offset and length in bytes."""

    kind: int
    offset: int = 0
    length: int = 0
    data: bytes = b""


@dataclass
class Reply:
    """An errno value (0 for success), a read's bytes, block status as (bytes, NBD state flags)."""

    error: int = 0
    data: bytes = b""
    extents: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class On:
    """Which request sets a fault off: the ``nth`` of those that fit, from 1 on.

    Offset and length are bytes, None is any. ``after`` is a request that must have come before, at
    any time; ``beside`` the kind of one in flight together with this one, to the same cluster, sent
    earlier.
    """

    kind: Kind
    offset: int | None = None
    length: int | None = None
    nth: int = 1
    after: "On | None" = None
    beside: Kind | None = None

    def fits(self, request: Request, earlier: list[Request]) -> bool:
        """Whether a request is of this kind and place; ``earlier`` are those in flight with it."""
        return (
            request.kind == self.kind
            and self.offset in (None, request.offset)
            and self.length in (None, request.length)
            and (
                self.beside is None
                or any(one.kind == self.beside for one in near(request, earlier))
            )
        )


Effect = Callable[["Disk", Request], "Reply | None"]
"""What is done in place of the right thing; None for a reply is success."""


@dataclass(frozen=True)
class Damage:
    """A range of bytes that goes wrong, the class of the damage, and the number of the op whose
    data is found there, where it is some op's."""

    offset: int
    length: int
    kind: str
    source: int | None = None


@dataclass(frozen=True)
class Defect:
    """One way to go wrong, and what blkbox must say of it.

    ``damage`` is what the culprit alone does; without any, the verdict is "failed". ``shows`` says
    when it can be seen: "live"; on "reopen", because what is served until then is right and the
    image is not; or on "close", because only then it is done. ``later`` is a second fault. ``luck``
    says for each start of the driver in turn whether there is a fault this time.
    """

    name: str
    on: On
    effect: Effect
    culprit: int
    damage: tuple[Damage, ...] = ()
    shows: str = "live"
    workload: str = "main"
    later: tuple[On, Effect] | None = None
    luck: str = ""

    @property
    def verdict(self) -> str:
        return "damaged" if self.damage else "failed"

    @property
    def needs_concurrency(self) -> bool:
        return self.on.beside is not None


class Disk:
    """Carries out requests on a raw image, all but right. ``starts`` is a file that counts
    starts."""

    def __init__(self, image: str, defect: Defect | None, starts: str) -> None:
        self.image = image
        self.fd = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.fd).st_size
        self.earlier: list[Request] = []
        """What is in flight together with the request at hand, and was sent before it."""
        self._shows = defect.shows if defect else "live"
        self._faults = [(defect.on, defect.effect)] if defect else []
        if defect and defect.later:
            self._faults.append(defect.later)
        if defect and defect.luck and not _lucky(starts, defect.luck):
            self._faults.clear()
        self._seen: Counter[On] = Counter()
        self._past: list[tuple[int, bytes]] = []
        self._at_close: list[Effect] = []
        self._served = (
            None if self._shows != "reopen" else bytearray(os.pread(self.fd, self.size, 0))
        )

    def do(self, burst: list[Request]) -> list[Reply]:
        """Carry out what is in flight together, in the order in which it was sent."""
        replies = []
        for index, request in enumerate(burst):
            self.earlier = burst[:index]
            replies.append(self._do(request, self._fault(request)) or Reply())
        return replies

    def right(self, request: Request) -> Reply | None:
        """Do what was asked for."""
        if request.kind == Kind.READ:
            return Reply(data=self.get(request.offset, request.length))
        if request.kind == Kind.BLOCK_STATUS:
            return Reply(extents=[(request.length, 0)])
        if request.kind != Kind.FLUSH:  # no test pulls the plug
            self.put(request.offset, request.data or bytes(request.length))
        return None

    def get(self, offset: int, length: int) -> bytes:
        """What is read back."""
        if self._served is not None:
            return bytes(self._served[offset : offset + length])
        return os.pread(self.fd, length, offset)

    def put(self, offset: int, data: bytes) -> None:
        """Change the image. Effects call this."""
        self._past.append((offset, os.pread(self.fd, len(data), offset)))
        os.pwrite(self.fd, data, offset)

    def older(self, offset: int, length: int, back: int) -> bytes:
        """What a range held ``back`` changes ago."""
        data = bytearray(os.pread(self.fd, length, offset))
        for at, old in reversed(self._past):
            start, end = max(offset, at), min(offset + length, at + len(old))
            if start < end and back > 0:
                data[start - offset : end - offset] = old[start - at : end - at]
                back -= 1
        return bytes(data)

    def close(self) -> None:
        """The last client has gone: do what was left for now."""
        while self._at_close:
            self._at_close.pop(0)(self, Request(Kind.FLUSH))  # what was asked for is done already

    def _fault(self, request: Request) -> Effect | None:
        """The effect that a request sets off, if any."""
        found = None
        for on, effect in self._faults:
            if on.fits(request, self.earlier) and (on.after is None or self._seen[on.after]):
                self._seen[on] += 1
                if self._seen[on] == on.nth:
                    found = effect
            if on.after is not None and on.after.fits(request, self.earlier):
                self._seen[on.after] += 1
        return found

    def _do(self, request: Request, effect: Effect | None) -> Reply | None:
        if effect is not None and self._shows == "close":
            self._at_close.append(effect)
            effect = None
        if self._served is not None and request.kind in (Kind.WRITE, Kind.ZERO, Kind.TRIM):
            data = request.data or bytes(request.length)
            self._served[request.offset : request.offset + request.length] = data
        return effect(self, request) if effect is not None else self.right(request)


def near(request: Request, others: list[Request]) -> list[Request]:
    """Those of the others that start in the same cluster."""
    return [one for one in others if one.offset // CLUSTER == request.offset // CLUSTER]


def _lucky(starts: str, luck: str) -> bool:
    """Toss a coin that falls the same way in every test; ``starts`` keeps count."""
    with open(starts, "a+") as file:
        file.seek(0)
        start = len(file.read())
        file.write(".")
    return luck[start % len(luck)] == "1"

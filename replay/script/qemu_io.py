"""A program as a shell script for qemu-io, which opens the image itself or is the client of a
qemu-nbd that serves it.

Of the commands of qemu-io, ``aio_write`` and ``aio_read`` start an op and do not wait, and
``aio_flush`` waits for them. ``discard`` and ``flush`` have no such form: in a group they come
last.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replay.minimize.program import Program, Step, groups
from replay.script.about import About, attempts, comment, tries
from replay.script.expected import Disk, Piece, why_not
from tracer.op import Flag, Kind
from tracer.text import shell

READ = 16 << 20
"""The most bytes of one read at the end."""

_ONLY_SYNC = {Kind.TRIM, Kind.FLUSH}


@dataclass(frozen=True, slots=True)
class Image:
    """How the script makes and opens its image: arguments with ``{image}``, ``{size}``, ``{start}``
    and ``{base}``, without the program's name."""

    suffix: str
    create: tuple[str, ...]
    """The arguments of qemu-img that create an image."""
    opened: tuple[str, ...]
    """The arguments of qemu-io or qemu-nbd that name it."""
    serve: tuple[str, ...] = ()
    """The other arguments of qemu-nbd."""
    check: tuple[str, ...] | None = None
    """The arguments of qemu-img that check it; None if it cannot be checked."""


def why_not_qemu_io(program: Program) -> str | None:
    """Return why a program cannot be a script for qemu-io; None if it can."""
    if any(step.kind in (Kind.CACHE, Kind.BLOCK_STATUS) for step in program.steps):
        return "qemu-io has no command for cache and block status"
    for group in groups(program) or ():
        if sum(step.kind in _ONLY_SYNC for step in group) > 1:
            return "qemu-io cannot have two discards or flushes in flight together"
    return why_not(program)


def qemu_io_script(program: Program, image: Image, about: About, *, served: bool) -> str:
    """Return the script. With ``served``, qemu-nbd serves the image and qemu-io is its client."""
    disk = Disk(program)
    sessions: list[list[str]] = [[]]
    start = [step for step in program.steps if step.kind == Kind.START]
    disk.done(start)
    racing: set[int] = set()
    known = True
    for group in groups(program) or ():
        group = [step for step in group if step.kind != Kind.START]
        if not group:
            continue
        if group[0].restart:
            sessions.append([])
        if len(group) == 1:
            sessions[-1] += alone(group[0], disk)
        else:
            sessions[-1] += together(group)
            for step, pieces in disk.reads(group):
                racing |= {value for piece in pieces for value in piece.values}
                known = known and sum(one.stop - one.start for one in pieces) == step.length
        disk.done(group)
    final = list(cut(disk.final()))
    bytes_allowed = tuple(sorted(racing)) if racing and known else ()
    programs = "QEMU_IMG, QEMU_NBD and QEMU_IO" if served else "QEMU_IMG and QEMU_IO"
    last_reads = reads(final)
    body = [_create(image, program.size, start)]
    for number, session in enumerate(sessions):
        last = number == len(sessions) - 1
        body.append(_io(session + (last_reads if last else []), "live"))
        if last and bytes_allowed:
            body.append(f"only {' '.join(f'{value:02x}' for value in bytes_allowed)}")
        if last:
            body.append(_expect(final))
        if image.check is not None:
            body.append(_CHECK.format(check=in_shell(image.check, image)))
    body += [_io(last_reads, "reopened"), _expect(final)]
    opened = in_shell((*image.serve, *image.opened) if served else image.opened, image)
    parts = [
        "#!/bin/sh",
        comment(about, f"{programs} name the programs of another build. {tries(program)}"),
        "",
        _HEAD.format(suffix=image.suffix),
        (_SERVED if served else _DIRECT).format(opened=opened),
        "attempt() {",
        textwrap.indent("\n".join(body).rstrip(), "    "),
        "}\n",
        _TAIL.format(attempts=attempts(program)),
    ]
    return "\n".join(parts)


_HEAD = """set -u
: "${{QEMU_IMG:=qemu-img}}" "${{QEMU_NBD:=qemu-nbd}}" "${{QEMU_IO:=qemu-io}}"
dir=$(mktemp -d) || exit 125
trap 'rm -rf "$dir"' EXIT
image=$dir/test.{suffix}
bad=0

fault() {{
    echo "fault: $*"
    bad=1
}}

# expect OFFSET COUNT: of COUNT reads at OFFSET, each of a pattern, one must have found its own
expect() {{
    failed=$(grep -c "verification failed at offset $1," "$dir/log")
    [ "$failed" -lt "$2" ] || fault "wrong data at byte $1 ($when)"
}}

# only BYTE...: reads in flight with changes returned no other bytes than these
only() {{
    other=$(grep '^[0-9a-f]*:  [0-9a-f][0-9a-f] ' "$dir/log" | cut -c 12-58 | tr ' ' '\\n' |
        sort -u | grep -vxF "$(printf '%s\\n' "" "$@")")
    [ -z "$other" ] || fault "a read returned bytes that nobody wrote: $other"
}}
"""

_DIRECT = """# io WHEN COMMAND...: open the image, do the commands of qemu-io, and close it
io() {{
    when=$1
    shift
    for command do
        shift
        set -- "$@" -c "$command"
    done
    "$QEMU_IO" --cache=writeback --discard=unmap {opened} "$@" >"$dir/log" 2>&1
    status=$?
    [ "$status" -lt 128 ] ||
        fault "qemu-io died, exit status $status ($when): $(tail -n 1 "$dir/log")"
    ! grep -v '^qemu-io: ' "$dir/log" | grep 'failed: ' || fault "an op failed ($when)"
    ! grep "can't open\\|Could not open" "$dir/log" || fault "the image cannot be opened ($when)"
}}
"""

_SERVED = """# io WHEN COMMAND...: serve the image, do the commands of qemu-io as a client, and stop
io() {{
    when=$1
    shift
    for command do
        shift
        set -- "$@" -c "$command"
    done
    rm -f "$dir/socket"
    "$QEMU_NBD" --socket="$dir/socket" {opened} 2>"$dir/server" &
    server=$!
    tries=0
    while [ ! -S "$dir/socket" ] && kill -0 "$server" 2>/dev/null && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    "$QEMU_IO" -f raw "nbd+unix:///?socket=$dir/socket" "$@" >"$dir/log" 2>&1
    kill "$server" 2>/dev/null
    wait "$server"
    status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 143 ] ||
        fault "qemu-nbd died, exit status $status ($when): $(tail -n 1 "$dir/server")"
    ! grep -v '^qemu-io: ' "$dir/log" | grep 'failed: ' || fault "an op failed ($when)"
    ! grep "can't open" "$dir/log" || fault "the image cannot be opened ($when)"
}}
"""

_CHECK = """"$QEMU_IMG" {check} >"$dir/check" 2>&1
status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fault "the check failed: $(head -n 1 "$dir/check")"
"""

_TAIL = """attempts=${{ATTEMPTS:-{attempts}}}
while [ "$attempts" -gt 0 ] && [ "$bad" -eq 0 ]; do
    attempt
    attempts=$((attempts - 1))
done
[ "$bad" -ne 0 ] || echo "no fault"
exit "$bad"
"""


def _create(image: Image, size: int, start: Sequence[Step]) -> str:
    """Return the lines that create the image. If the disk starts with data, that is a raw image
    first."""
    lines = ['rm -f "$image"']
    if any("{start}" in word or "{base}" in word for word in image.create):
        writes = "".join(
            f" -c 'write -P {_byte(step)} {step.offset} {step.length}'" for step in start
        )
        lines += [
            "# what the disk starts with",
            'rm -f "$dir/start.raw"',
            f'"$QEMU_IMG" create -q -f raw "$dir/start.raw" {size} || exit 125',
            f'"$QEMU_IO" -f raw{writes} "$dir/start.raw" >"$dir/log" 2>&1 || exit 125',
        ]
    words = in_shell(image.create, image, size=size)
    return "\n".join([*lines, f'"$QEMU_IMG" {words} || exit 125', ""])


def in_shell(words: Sequence[str], image: Image, size: int = 0) -> str:
    """Return arguments in shell, with the script's variables for the paths."""
    places = {"{image}": '"$image"', "{size}": str(size), "{start}": '"$dir/start.raw"',
              "{base}": '"$dir/start.raw"', "{image_option}": '"$image"'}  # fmt: skip
    found = []
    for word in words:
        for place, variable in places.items():
            if place in word:
                before, _, after = word.partition(place)
                found.append(f"{shell([before]) if before else ''}{variable}{after}")
                break
        else:
            found.append(shell([word]))
    return " ".join(found)


def _io(commands: Sequence[str], when: str) -> str:
    lines = [f"io {when} \\"]
    lines += [f"    '{command}' \\" for command in commands]
    return "\n".join(lines).rstrip(" \\")


def alone(step: Step, disk: Disk) -> Iterator[str]:
    """Yield the commands of a step with nothing else in flight. A read looks at what it gets."""
    if step.kind == Kind.READ:
        for _, pieces in disk.reads([step]):
            single = [piece for piece in pieces if len(piece.values) == 1]
            if len(single) == len(pieces) == 1 and pieces[0].stop - pieces[0].start == step.length:
                yield f"read -P {single[0].values[0]} {step.offset} {step.length}"
                return
    yield _command(step)


def together(group: Sequence[Step]) -> Iterator[str]:
    """Yield the commands of steps in flight together. What a read returns is shown."""
    for step in sorted(group, key=lambda step: step.kind in _ONLY_SYNC):
        command = _command(step)
        if step.kind not in _ONLY_SYNC:
            command = f"aio_{command}"
        if step.kind == Kind.READ:
            command = command.replace("aio_read", "aio_read -v")
        yield command
    yield "aio_flush"


def _command(step: Step) -> str:
    fua = " -f" if step.flags & Flag.FUA else ""
    place = f"{step.offset} {step.length}"
    match step.kind:
        case Kind.WRITE:
            return f"write{fua} -P {_byte(step)} {place}"
        case Kind.ZERO:
            unmap = "" if step.flags & Flag.NO_HOLE else " -u"
            fast = " -n" if step.flags & Flag.FAST_ZERO else ""
            return f"write -z{unmap}{fast}{fua} {place}"
        case Kind.TRIM:
            return f"discard {place}"
        case Kind.READ:
            return f"read {place}"
    return "flush"


def _byte(step: Step) -> int:
    assert step.fill is not None
    assert step.fill.byte is not None
    return step.fill.byte


def cut(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Yield pieces of at most READ bytes."""
    for piece in pieces:
        for start in range(piece.start, piece.stop, READ):
            yield Piece(start, min(piece.stop, start + READ), piece.values)


def reads(pieces: Sequence[Piece]) -> list[str]:
    return [
        f"read -P {value} {piece.start} {piece.stop - piece.start}"
        for piece in pieces
        for value in piece.values
    ]


def _expect(pieces: Sequence[Piece]) -> str:
    return "\n".join(f"expect {piece.start} {len(piece.values)}" for piece in pieces) + "\n"

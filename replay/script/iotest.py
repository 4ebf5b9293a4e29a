"""A program as the skeleton of a test for QEMU's iotests (tests/qemu-iotests in QEMU's tree)."""

from collections.abc import Sequence
from itertools import pairwise

from replay.minimize.program import Program, groups
from replay.script.about import About, comment
from replay.script.expected import Disk
from replay.script.qemu_io import Image, alone, cut, in_shell, reads, together
from tracer.op import Kind

_TEMPLATE = """#!/usr/bin/env bash
# group: rw auto quick
#
{about}

# creator
owner=

seq=$(basename "$0")
echo "QA output created by $seq"
status=1 # failure is the default!

_cleanup()
{{
    _cleanup_test_img
}}
trap "_cleanup; exit \\$status" 0 1 2 3 15

. ./common.rc
. ./common.filter

_supported_fmt {format}
_supported_proto file
_supported_os Linux

_make_test_img {options}{size}

{body}

_check_test_img

echo "*** done"
rm -f "$seq.full"
status=0
"""


def iotest(program: Program, image: Image, about: About) -> str:
    """Return the test. Its expected output is what a good build prints."""
    disk = Disk(program)
    sessions: list[list[str]] = [[]]
    for group in groups(program) or ():
        group = [step for step in group if step.kind != Kind.START]
        if not group:
            continue
        if group[0].restart:
            sessions.append([])
        sessions[-1] += alone(group[0], disk) if len(group) == 1 else together(group)
        disk.done(group)
    certain = [piece for piece in cut(disk.final()) if len(piece.values) == 1]
    sessions.append(reads(certain))
    how = (
        "A skeleton: run it once on a good build, look at what it prints, and keep that as the "
        "test's .out file."
    )
    return _TEMPLATE.format(
        about=comment(about, how),
        format=image.suffix,
        options=_options(image.create),
        size=program.size,
        body="\n\n".join(_session(session) for session in sessions if session),
    )


def _session(commands: Sequence[str]) -> str:
    lines = ["$QEMU_IO --discard=unmap \\", *(f"    -c '{command}' \\" for command in commands)]
    return "\n".join(lines) + '\n    "$TEST_IMG" | _filter_qemu_io'


def _options(create: Sequence[str]) -> str:
    """Return the ``-o`` options with which an image is created."""
    found = [
        f"-o {in_shell([value], Image('', (), ()))} "
        for name, value in pairwise(create)
        if name == "-o"
    ]
    return "".join(found)

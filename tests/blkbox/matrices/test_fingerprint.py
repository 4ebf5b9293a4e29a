"""What tells builds and cells apart."""

import json
import shutil
from pathlib import Path

import pytest

from blkbox.matrices.cell import SAMPLES, Task, Times
from blkbox.matrices.fingerprint import fingerprint
from blkbox.matrices.model import BuildRow, TraceRow
from replay.generate.profiles import DEFAULT
from tests.kit.drivers import toml
from tests.kit.peers import need
from tracer.errors import UsageError


def test_a_build_of_qemu_is_its_programs_and_their_libraries(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    plain, other = fingerprint("qcow2"), fingerprint("vmdk")
    assert plain.fingerprint != other.fingerprint
    assert plain.files > 10  # qemu-nbd, qemu-img, libc, ...
    for name in ("qemu-nbd", "qemu-img"):
        shutil.copy(str(shutil.which(name)), tmp_path / name)
    copy = fingerprint(f"qcow2@{tmp_path}")
    assert (copy.fingerprint, copy.files) == (plain.fingerprint, plain.files)
    with (tmp_path / "qemu-nbd").open("ab") as file:
        file.write(b"\0")
    assert fingerprint(f"qcow2@{tmp_path}").fingerprint != plain.fingerprint


def test_a_toml_build_is_its_commands_and_the_files_they_name(tmp_path: Path) -> None:
    script, plugin = tmp_path / "serve.sh", tmp_path / "plugin.py"
    script.write_text("#!/bin/sh\nexec true\n")
    script.chmod(0o700)
    plugin.write_text("1")

    def build(**more: list[str]) -> str | None:
        toml(tmp_path, serve=["{here}/serve.sh", "{socket}", "script={here}/plugin.py"], **more)
        return fingerprint(str(tmp_path / "mine.toml")).fingerprint

    keys = [build()]
    assert build() == keys[0]
    plugin.write_text("2")
    keys.append(build())
    script.write_text("#!/bin/bash\nexec true\n")
    keys.append(build())
    keys.append(build(check=["sh", "-c", f"{tmp_path}/plugin.py"]))
    plugin.write_text("3")  # the script for sh names it too
    keys.append(build(check=["sh", "-c", f"{tmp_path}/plugin.py"]))
    keys.append(build(create=["touch", "{image}"]))
    assert len(set(keys)) == len(keys)
    assert None not in keys


def test_the_plugins_of_nbdkit_count(tmp_path: Path) -> None:
    need("nbdkit")
    found = []
    for words in (["memory"], ["--filter=cow", "memory"], ["null"]):
        toml(tmp_path, serve=["nbdkit", "-U", "{socket}", *words, "1M"])
        found.append(fingerprint(str(tmp_path / "mine.toml")))
    assert len({row.fingerprint for row in found}) == 3
    assert found[1].files > found[0].files


def test_what_has_none_says_so() -> None:
    server = fingerprint("nbd://localhost:1")
    assert (server.fingerprint, server.alone, server.problem) == (None, True, "")
    missing = fingerprint("qcow2@/nowhere")
    assert missing.fingerprint is None
    assert "there is no program qemu-nbd in /nowhere" in missing.problem
    with pytest.raises(UsageError):
        fingerprint("nothing")


def test_a_cell_is_told_by_trace_build_and_options() -> None:
    def key(digest: str, build: str | None, **options: object) -> str:
        trace = TraceRow(name="t", where="/t.trace", digest=digest)
        return Task(trace, BuildRow(name="b", fingerprint=build), DEFAULT, 1, 1, options).key

    keys = [key("a", "b"), key("b", "b"), key("a", "c"), key("a", None), key("a", "b", runs=2)]
    assert len(set(keys)) == len(keys)
    assert key("a", "b", runs=2, locate=False) == key("a", "b", locate=False, runs=2)


def test_times_are_sampled_over_the_whole_run() -> None:
    times = Times()
    for ns in range(10 * SAMPLES):
        times.add("read", ns)
    times.add("flush", 7)
    found = times.samples()
    assert found["flush"] == [7]
    assert SAMPLES <= len(found["read"]) <= 2 * SAMPLES
    steps = {b - a for a, b in zip(found["read"], found["read"][1:], strict=False)}
    assert len(steps) == 1  # evenly
    assert found["read"][-1] >= 10 * SAMPLES - steps.pop()
    json.dumps(found)

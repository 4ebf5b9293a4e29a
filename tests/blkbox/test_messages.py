"""What a newcomer does wrong, and the one line that says so."""

from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import WORKLOAD, make_trace

REPLAY = ["replay", "w.trace", "--driver"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["reply"], "No such command 'reply'. Did you mean 'replay'? (try: trace --help)"),
        (["w.trace"], "No such command 'w.trace'. (try: trace show w.trace)"),
        (["-q", "verify", "w.trace"], "a verb's options come after the verb"),
        (["record"], "Missing argument 'OUT.trace'. (try: trace record --help)"),
        (["record", "--driver", "raw", "--", "ls", "{nbd}"], "the trace is missing: name it"),
        (["record", "--driver", "raw", "ls", "{nbd}"], "{nbd} stands where the guest's program"),
        (["record", "x", "--driver", "raw", "ls", "-f"], "write -- before that command"),
        (["record", "x", "--driver", "raw", "ls", "-v"], "-v comes after the guest's program"),
        ([*REPLAY], "requires an argument. (try: trace replay --help)"),
        ([*REPLAY, "qcow"], "unknown driver 'qcow': did you mean qcow2?"),
        ([*REPLAY, "/dev/none"], "there is no block device /dev/none"),
        ([*REPLAY, "w.trace"], "w.trace is neither a block device nor a .toml file"),
        ([*REPLAY, "."], ". is a folder: for a build of QEMU in it give FORMAT@DIR"),
        ([*REPLAY, "qcow2@"], "name the folder of the build after the @"),
        ([*REPLAY, "raw", "--runs", "x"], "Invalid value for '--runs': it should be an integer"),
        ([*REPLAY, "raw", "--start", "x"], "--start 'x': give one of auto, backing"),
        ([*REPLAY, "raw", "w.trace"], "there is an argument too many: w.trace"),
        (["plot", "foo", "w.trace"], "Invalid value for 'KIND': 'foo' is not one of 'damage'"),
        (["plot", "damage", "w.trace"], "w.trace is not a verdict: give a file with"),
        (["diff", "w.trace", "v.json"], "v.json is JSON and w.trace is not"),
    ],
)
def test_wrong_words_get_one_line(tmp_path: Path, argv: list[str], said: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    (tmp_path / "v.json").write_text("{}")
    done = trace(*argv, cwd=tmp_path, expect=200)
    assert done.stderr.startswith("trace: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema": 1}', "it is JSON, like a verdict"),
        (b"QFI\xfb\0\0\0\3", "it is a qcow2 image"),
        (bytes(4096), "it has no header"),
        (None, "it has the payloads of one"),
    ],
)
def test_another_file_in_place_of_a_trace_is_named(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    name = "w.payloads" if content is None else "file"
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for verb in (["show"], ["verify"], ["replay", "--driver", "raw"], ["plot", "timeline"]):
        done = trace(*verb, name, cwd=tmp_path, expect=201)
        assert done.stderr == f"trace: {name} is not a trace: {said}\n"


@pytest.mark.parametrize(("argv", "usage"), [([], "trace"), (["replay"], "trace replay")])
def test_help_is_a_verb_too(tmp_path: Path, argv: list[str], usage: str) -> None:
    shown = trace("help", *argv, cwd=tmp_path).stdout
    assert shown.lstrip().startswith(f"Usage: {usage} [OPTIONS]")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "did not start: exit status 0; if serve goes to the background, keep it in"),
        ("exit 3", "did not start: exit status 3"),
        ("kill -SEGV $$", "did not start: killed by SIGSEGV"),
    ],
)
def test_how_a_driver_s_start_failed(tmp_path: Path, script: str, said: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = toml(tmp_path, create=["touch", "{image}"], serve=["sh", "-c", script, "{socket}"])
    assert said in trace(*REPLAY, driver, cwd=tmp_path, expect=125).stderr


SERVER = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1]); server.listen()
print("last words", file=sys.stderr, flush=True)
connection, _ = server.accept()
"""


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("connection.sendall(b'x' * 64); connection.recv(1)", "mine: it does not speak newstyle"),
        ("os._exit(3)", "mine ended while it started: exit status 3"),
        ("os.kill(os.getpid(), 9)", "mine ended while it started: killed by SIGKILL"),
    ],
)
def test_a_protocol_broken_at_the_start_keeps_its_reason(
    tmp_path: Path, end: str, said: str
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    (tmp_path / "server.py").write_text(SERVER + end)
    serve = ["{python}", "{here}/server.py", "{socket}"]
    driver = toml(tmp_path, create=["touch", "{image}"], serve=serve)
    done = trace(*REPLAY, driver, cwd=tmp_path, expect=125)
    assert done.stderr.startswith(f"trace: {said}")
    assert done.stderr.endswith("last words\n")

"""Drivers that send something all the time, and never an answer: they hang."""

import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.drivers import toml
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.guests import qemu_io
from tests.kit.peers import background, need, peer
from tests.kit.system import wait_until
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter, ask
from tracer.driver import driver as driver_module
from tracer.driver.spec import parse_driver
from tracer.errors import DriverError, DriverHung
from tracer.nbd.uri import Address
from tracer.op import Kind
from tracer.recording.options import RecordOptions
from tracer.recording.session import record

ROOT = str(Path(__file__).parents[3])

SIZE = 1 << 20

DRIPS = ("empty", "bytes")


def driver(folder: Path, how: str) -> str:
    name = toml(folder, serve=["{python}", "-m", "tests.kit.dripping", "{socket}", "{size}", how])
    with (folder / name).open("a") as file:
        file.write(f"env = {{ PYTHONPATH = {json.dumps(ROOT)} }}\n")
    return name


@pytest.mark.parametrize("how", DRIPS)
def test_a_replay_on_it_hangs(tmp_path: Path, how: str) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    done = trace(
        "replay", "w.trace", "--driver", driver(tmp_path, how), "--no-plot", "--no-locate",
        "--timeout", "1", cwd=tmp_path, expect=1,
    )  # fmt: skip
    assert re.match(r"verdict:  failed \(mine\): #\d+ read .* not answered in time", done.stdout)


@pytest.mark.parametrize("how", DRIPS)
def test_a_read_of_ours_is_not_waited_for_for_ever(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-m", "tests.kit.dripping", tmp_path / "s", SIZE, how]
    with background(*command, cwd=Path(ROOT)), Loop() as loop:
        wait_until((tmp_path / "s").exists)
        device = NbdDevice.connect(loop, Address(path=str(tmp_path / "s")))
        wait = Waiter(loop, device, 0.5)
        assert ask(wait, device, Kind.FLUSH, 0, 0, "a flush")[0] == 0
        with pytest.raises(DriverHung, match=r"did not answer a read within 0\.5 s"):
            ask(wait, device, Kind.READ, 0, 4096, "a read")
        device.close()


@pytest.mark.parametrize("how", ["hello", "option"])
def test_negotiation_that_never_ends_is_undecidable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(driver_module, "START_TIMEOUT", 1.0)
    monkeypatch.chdir(tmp_path)
    options = RecordOptions(
        Path("t.trace"), parse_driver(driver(tmp_path, how)), size=SIZE, command=("true",)
    )
    with pytest.raises(DriverError, match=r"^mine: it did not finish negotiating within 1 s$"):
        record(options, lambda _: None)


def test_a_guest_that_stalls_amid_negotiation_is_in_nobodys_way(tmp_path: Path) -> None:
    need("qemu-io")
    with (
        recording("t.trace", "--driver", "raw", "--size", SIZE, cwd=tmp_path) as (process, uri),
        socket.socket(socket.AF_UNIX) as silent,
    ):
        silent.connect(uri.partition("socket=")[2])
        silent.recv(1)  # it is accepted, and says nothing
        peer(*(uri if word == "{nbd}" else word for word in qemu_io("write 0 4k")))
        code, out, _ = finish(process, signal.SIGINT)
    assert code == 0, out
    assert "verdict:  clean" in out

"""Guests that attack the server's TLS; ``make soak`` has many more of them."""

import random
from pathlib import Path

import pytest

from benchmarks.tls import ATTACKS, attack, make_certificates, served
from tests.kit.command import finish, recording
from tests.kit.peers import need


@pytest.mark.slow
def test_attackers_do_no_harm(tmp_path: Path) -> None:
    need("openssl")
    pki = make_certificates(tmp_path / "pki")
    options = ("--driver", "raw", "--size", "1M", "--listen", "unix:s", "--tls-certificates", pki)
    with recording("t.trace", *options, cwd=tmp_path) as (process, _):
        counts = attack(tmp_path / "s", 80, random.Random(8))
        assert len(counts) == len(ATTACKS)
        assert served(tmp_path / "s").endswith(bytes(512))
        code, _, err = finish(process)
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("blkbox: guest ") for line in lines[:10])
    assert lines[10] == "blkbox: further guests that cannot connect are not shown"

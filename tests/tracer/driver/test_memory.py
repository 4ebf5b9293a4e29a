"""Whether a driver keeps data over a restart."""

from pathlib import Path

import pytest

from tests.kit.drivers import toml
from tests.kit.peers import need
from tracer.disk.loop import Loop
from tracer.driver.memory import forgets
from tracer.driver.spec import load_toml, parse_driver

SIZE = 1 << 20
CREATE = ["truncate", "-s", "{size}", "{image}"]


@pytest.mark.parametrize(
    ("serve", "forgetful"),
    [
        (["nbdkit", "-f", "-U", "{socket}", "file", "{image}"], False),
        (["nbdkit", "-f", "-U", "{socket}", "memory", "{size}"], True),
        (["nbdkit", "-f", "-U", "{socket}", "--filter=cow", "file", "{image}"], True),
        (["nbdkit", "-f", "-r", "-U", "{socket}", "file", "{image}"], True),
        (["false", "{socket}"], True),
    ],
)
def test_drivers_of_a_file(tmp_path: Path, serve: list[str], forgetful: bool) -> None:
    need("nbdkit")
    driver = load_toml(tmp_path / toml(tmp_path, create=CREATE, serve=serve))
    with Loop() as loop:
        assert forgets(driver, loop, SIZE) is forgetful


def test_a_format_keeps_what_it_is_given(tmp_path: Path) -> None:
    with Loop() as loop:
        assert not forgets(parse_driver("raw"), loop, SIZE)

"""Profiles: the named ones, and .toml files with one clear line for each mistake."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from replay.generate.dice import Dice
from replay.generate.features import draw
from replay.generate.profiles import DEFAULT, PROFILES, Profile, parse_profile
from tracer.errors import UsageError

HUNTING = Path(__file__).parents[3] / "docs" / "hunting.md"


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_names_select_profiles() -> None:
    for name, profile in PROFILES.items():
        assert parse_profile(name) is profile
        assert profile.name == name


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        'trim = 0\ndepth = 4\nrestarts = [0, 9]\nclusters = [512, "64K"]\nlongest_data = "1M"\n',
    )
    assert parse_profile(path) == replace(
        DEFAULT, name="mine", trim=0.0, depth=(4, 4), restarts=(0, 9), clusters=(512, 65536),
        longest_data=1 << 20,
    )  # fmt: skip


def test_a_file_may_start_from_another_profile_and_have_a_name(tmp_path: Path) -> None:
    path = toml(tmp_path, 'base = "serial"\nname = "one by one"\ntrim = 1')
    assert parse_profile(path) == replace(PROFILES["serial"], name="one by one", trim=1.0)


@pytest.mark.parametrize("name", [one.name for one in fields(Profile) if one.name != "name"])
def test_every_field_can_be_set_to_what_it_is(tmp_path: Path, name: str) -> None:
    value = getattr(DEFAULT, name)
    text = f"{name} = {list(value) if isinstance(value, tuple) else value}"
    assert parse_profile(toml(tmp_path, text)) == replace(DEFAULT, name="mine")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trim = 2", "trim: give a probability, from 0 to 1"),
        ("trim = true", "trim: give a probability, from 0 to 1"),
        ("trim = nan", "trim: give a probability, from 0 to 1"),
        ("depth = 0", r"depth: give a number from 1 to 256, or a range like \[1, 256\]"),
        ("depth = [4, 2]", "depth: give a number from 1 to 256"),
        ("depth = [1, 2, 3]", "depth: give a number from 1 to 256"),
        ("depth = 1.5", "depth: give a number from 1 to 256"),
        ("connections = 17", "connections: give a number from 1 to 16"),
        ('longest_data = "64M"', "longest_data: give a size from 4096 to 33554432 bytes"),
        ('longest_data = "much"', "longest_data: 'much' is not a size"),
        ("clusters = []", "clusters: give powers of two"),
        ("clusters = [3000]", "clusters: give powers of two"),
        ("trimm = 1", "unknown key 'trimm'; did you mean trim?"),
        ("xyz = 1", "unknown key 'xyz': known are write, read, "),
        ('base = "calm"', "'base' must be one of default, aligned"),
        ("base = 1", "'base' must be one of default, aligned"),
        ("name = 1", "'name' must be a string"),
        ('name = "\\u0007"', "'name' must be a string"),
        ("trim = ", "is not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(UsageError, match=f"^{re.escape(path)}.*{told}"):
        parse_profile(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot open .*no\.toml: No such file"):
        parse_profile(str(tmp_path / "no.toml"))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="'seriall' is not known: did you mean serial"):
        parse_profile("seriall")


def test_the_docs_list_every_field_and_every_profile() -> None:
    rows = re.findall(r"^\| `(\w+)`", HUNTING.read_text(), re.MULTILINE)
    listed = {one.name for one in fields(Profile)} | set(PROFILES)
    assert listed - {"name"} <= set(rows)


@pytest.mark.parametrize("name", PROFILES)
def test_seeds_switch_features_on_and_off(name: str) -> None:
    """With a probability between 0 and 1 some seeds have a feature and some do not."""
    profile = PROFILES[name]
    drawn = [draw(profile, 1 << 26, Dice(seed)) for seed in range(100)]
    for kind in ("write", "read", "zero", "trim", "cache", "block_status"):
        assert_switched({kind in one.kinds for one in drawn}, getattr(profile, kind))
    for feature in ("fua", "no_hole", "fast_zero", "zeroes", "quiet", "barriers", "whole",
                    "spanning", "big", "hot"):  # fmt: skip
        assert_switched({getattr(one, feature) > 0 for one in drawn}, getattr(profile, feature))
    assert_switched({one.flush_every > 0 for one in drawn}, profile.flush)
    assert_switched({one.grain == 1 for one in drawn}, profile.unaligned)
    for feature in ("depth", "connections", "restarts"):
        least, most = getattr(profile, feature)
        found = {getattr(one, feature) for one in drawn}
        assert least <= min(found) <= max(found) <= most
        assert len(found) > 1 or least == most
    assert {one.conflicts for one in drawn if one.depth == 1} <= {False}


def assert_switched(found: set[bool], probability: float) -> None:
    """All seeds have a feature, none has, or some have it."""
    assert found == {1.0: {True}, 0.0: {False}}.get(probability, {True, False})

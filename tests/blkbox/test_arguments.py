"""The words of a verb: ``--json`` with and without a file, and the guest's command."""

import pytest

from blkbox.arguments import check_guest, wants_json, with_json_value
from tracer.errors import UsageError


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("t.trace --json", "t.trace --json=-"),
        ("--json t.trace", "--json=- t.trace"),
        ("t.trace --json v.json", "t.trace --json=v.json"),
        ("--json V.JSON t.trace", "--json=V.JSON t.trace"),
        ("t.trace --json --report r.html", "t.trace --json=- --report r.html"),
        ("t.trace --json=verdict", "t.trace --json=verdict"),
        ("t.trace --json -- --json x.json", "t.trace --json=- -- --json x.json"),
    ],
)
def test_json_has_a_file_if_one_follows(words: str, read: str) -> None:
    assert with_json_value(words.split()) == read.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("replay t.trace --json", True),
        ("replay t.trace --json v.json", False),
        ("record t.trace --json=- -- guest", True),
        ("record t.trace -- guest --json", False),
        ("report --json v.json", True),
        ("verify t.trace", False),
    ],
)
def test_json_on_stdout_is_seen_before_anything_is_parsed(words: str, wanted: bool) -> None:
    assert wants_json(words.split()) is wanted


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("t.trace --driver raw -- guest -f {nbd}", None),
        ("t.trace --driver raw guest {nbd}", None),
        ("t.trace --driver raw", None),
        ("t.trace guest -q", "-q comes after the guest's program"),
        ("t.trace guest --driver raw", "--driver comes after"),
        ("--driver raw -- t.trace guest", "the trace is missing"),
    ],
)
def test_the_guest_s_command_is_told_from_ours(words: str, wrong: str | None) -> None:
    args = words.split()
    own = [word for word in args if word not in ("--", "--driver", "raw")]
    command = [word for word in own[1:] if word != "-q" or "--" in args]
    if wrong is None:
        check_guest(args, own[0], command)
    else:
        with pytest.raises(UsageError, match=wrong):
            check_guest(args, own[0], command)

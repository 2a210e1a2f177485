"""Plays the recorded cases against Tercet: real etcd's answers, byte for byte."""

from __future__ import annotations

import base64
import json
import shlex
import sys
from pathlib import Path

import pytest

from .playing import HERE, RECORDINGS, compared, play, read
from .recorder.normal import Norm

#: Each is one fresh server or cluster: `c3_` etcdctl is the client, `h3_` the JSON gateway is asked, `m3_`
#: more of both, `x_` what real etcd dies of.
GROUPS = (
    "c3_watch", "c3_member_life", "c3_misc", "m3_auth", "c3_lock", "c3_cluster", "c3_lease", "c3_mirror",
    "h3_watch", "c3_snapshot", "c3_kv", "c3_compact", "c3_auth_enable", "c3_tls", "c3_migrate", "h3_lease",
    "h3_cluster", "h3_concurrency", "h3_swagger", "m3_txn", "m3_kv", "m3_lease", "m3_http", "m3_json",
    "m3_corrupt", "m3_quota", "m3_limits", "m3_cluster", "m3_tls", "m3_mutual", "m3_spelling", "m3_variables",
    "x_crash_grant", "x_crash_sort",
)  # fmt: skip
DISAGREE_MAX = 0.03

pytestmark = pytest.mark.needs("etcdctl")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every group recorded against Tercet."""
    folder = tmp_path_factory.mktemp("golden")
    play(folder, GROUPS, "--etcd", f"{shlex.quote(sys.executable)} -m tercet")
    return folder


def disagreements() -> dict[str, str]:
    """The cases in which we differ on purpose, and why."""
    found: dict[str, str] = json.loads((HERE / "disagreements.json").read_text())
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_tercet_answers_as_etcd_does(recorded: Path, group: str) -> None:
    differing, listed = compared(recorded, group), disagreements()
    assert {name: pair for name, pair in differing.items() if name not in listed} == {}
    assert [name for name in read(RECORDINGS, group) if name in listed and name not in differing] == []


def test_every_listed_disagreement_names_a_case_and_a_reason_and_they_are_few() -> None:
    cases, listed = read(RECORDINGS), disagreements()
    assert [name for name in listed if name not in cases] == []
    assert min(map(len, listed.values())) > 10
    assert len(listed) <= DISAGREE_MAX * len(cases)


@pytest.mark.parametrize("form", ["%x", "%16x", "%016x", "%d"])
def test_an_id_is_found_however_it_is_printed(form: str) -> None:
    """etcdctl pads with spaces: one cluster in sixteen has an id of fifteen digits or fewer."""
    norm = Norm()
    norm.add_id(0xABCDEF0123, "<ID>")
    for text in ("updated in cluster %s\n", "id: %s, abcdef0123456789 stays"):
        assert norm.literal(text % (form % 0xABCDEF0123), set()) == text % "<ID>"


@pytest.mark.parametrize("digits", range(12, 17))
@pytest.mark.parametrize(
    "form", ["lease %x granted", "%x", "mylock/%x", '{"lease":"%d"}', '{"ID": %d,', "64 mylock/%x"]
)
def test_a_lease_is_found_however_short_it_is(digits: int, form: str) -> None:
    """One cluster in 128 has leases of fourteen digits or fewer, which nobody pads."""
    lease = int("7a1fffc199c0632d"[-digits:], 16)
    text = form.removeprefix("64 ") % lease
    if form.startswith("64 "):
        text = f'"{base64.b64encode(text.encode()).decode()}"'
    norm = Norm()
    assert norm.scan(text) == [(1, lease)]
    found, _ = norm.text(text)
    assert "<LEASE_ID_1>" in found and f"{lease:x}" not in found

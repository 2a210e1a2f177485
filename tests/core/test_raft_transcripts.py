"""Every transcript prints what it printed when somebody last read it (``pytest --rewrite`` regenerates).

``FAMILIES`` says which of them tell what etcd's raft library tests with transcripts of its own (its folder
``testdata``), and ``UNSEEN`` which rules no transcript can show.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tercet.core.raft import RULES

from .raft_transcript import run_file

_HERE = Path(__file__).parent
_FILES = sorted((_HERE / "transcripts").glob("raft_*.txt"))

#: Scenario of etcd's library -> our transcripts of it; none: it is about something that does not exist here.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "async_storage_writes": ("replication", "restart", "power_cut_and_votes"),
    "async_storage_writes_append_aba_race": ("disk_old_write",),
    "async_storage_writes_apply_nonlocally_committed": ("replication",),
    "campaign": ("election", "split_vote"),
    "campaign_learner_must_vote": ("learner_votes",),
    "campaign_now_lease": ("lease_reads", "lease_promise"),
    "checkquorum": ("check_quorum",),
    "commit_index_regression": ("disk_lost",),
    "confchange_disable_validation": (),  # changes are always validated
    "confchange_v1_add_single": ("change_add_and_remove",),
    "confchange_v1_remove_leader": ("change_remove_leader",),
    "confchange_v1_remove_leader_stepdown": ("change_remove_leader",),
    "confchange_v2_add_double_auto": ("change_joint_automatic",),
    "confchange_v2_add_double_implicit": ("change_joint_automatic", "change_joint_single"),
    "confchange_v2_add_single_auto": ("change_add_and_remove", "change_learner"),
    "confchange_v2_add_single_explicit": ("change_joint_explicit", "change_joint_single"),
    "confchange_v2_replace_leader": ("change_replaces_leader", "change_new_leader_leaves"),
    "confchange_v2_replace_leader_stepdown": ("change_replaces_leader",),
    "forget_leader": (),  # nobody forgets a leader on demand (docs/reference/names.md says why)
    "forget_leader_prevote_checkquorum": (),  # the same: it is to vote though it hears a leader
    "forget_leader_read_only_lease_based": (),  # the same: etcd's library ignores the demand, for the lease
    "heartbeat_resp_recovers_from_probing": ("flow_unreachable", "flow_lost_append"),
    "lagging_commit": ("flow_lagging_commit",),
    "prevote": ("pre_vote_old_log", "returns_without_pre_vote"),
    "prevote_checkquorum": ("pre_vote_return",),
    "probe_and_replicate": ("figure_7", "conflict_repair"),
    "replicate_pause": ("flow_window", "flow_window_bytes", "flow_lost_append"),
    "single_node": ("single_node",),
    "slow_follower_after_compaction": ("snapshot_while_replicating", "snapshot_while_probing"),
    "snapshot_succeed_via_app_resp": ("snapshot_new_node", "snapshot_no_answer"),
    "snapshot_succeed_via_app_resp_behind": ("snapshot_behind_again",),
    "vote": ("vote_old_log",),
}

#: Rules about messages and data that no honest member sends.
UNSEEN: Final = ("append/ack-beyond-log", "read/no-such-round", "snapshot/malformed", "conf/malformed")


def test_there_are_transcripts() -> None:
    assert len(_FILES) >= 60


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_a_transcript_prints_what_it_always_did(path: Path, request: pytest.FixtureRequest) -> None:
    before = path.read_text()
    after = run_file(before)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(after)
        return
    assert after == before


def test_every_scenario_of_etcds_library_is_told_here_too() -> None:
    told = {name for names in FAMILIES.values() for name in names}
    assert sorted(told - {path.stem.removeprefix("raft_") for path in _FILES}) == []
    assert len(FAMILIES) >= 32


def test_the_key_explains_every_command_that_is_used() -> None:
    key = (_HERE / "transcripts" / "README.md").read_text()
    blocks = [block for path in _FILES for block in path.read_text().split("\n\n")]
    heads = [block.partition("\n----\n")[0] for block in blocks]
    lines = [line.removeprefix("quietly ") for head in heads for line in head.splitlines()]
    used = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert {word for word in used if not re.search(f"`{word}[ `]", key)} == set()
    assert len(used) >= 30


def test_every_rule_that_refuses_something_can_be_seen_in_a_transcript() -> None:
    everything = "".join(path.read_text() for path in _FILES)
    assert {rule for rule in RULES if f"refuse {rule}" not in everything} == set(UNSEEN)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_a_transcript_says_first_what_it_shows_and_where_that_is_written(path: Path) -> None:
    intro = path.read_text().split("\ncluster")[0]
    assert all(line.startswith("# ") and len(line) <= 116 for line in intro.splitlines())
    assert re.search(r"section \d|sections \d|[Ff]igure \d|thesis \d|bug B\d|etcd's", intro), intro

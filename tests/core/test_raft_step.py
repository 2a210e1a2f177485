"""Single rules of the core, one by one, and that ``step`` is a function."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import tercet.core.raft
from tercet.core.errors import Corruption
from tercet.core.raft import (
    NO_EFFECTS,
    RULES,
    AppendReply,
    AppendRequest,
    Applied,
    Config,
    Entry,
    HardState,
    HeartbeatRequest,
    Persisted,
    Propose,
    RaftState,
    Receive,
    Role,
    Tick,
    VoteReply,
    restart,
    state_digest,
    step,
)


def node(node_id: int = 1, voters: tuple[int, ...] = (1, 2, 3)) -> RaftState:
    return restart(Config(node_id=node_id, voters=voters), HardState())


def leader() -> RaftState:
    state = node()
    while state.role != Role.PRE_CANDIDATE:
        state = step(state, Tick()).state
    for pre_vote in (True, False):
        reply = VoteReply(sender=2, to=1, term=1, vote_granted=True, pre_vote=pre_vote)
        state = step(state, Receive(reply)).state
    assert state.role == Role.LEADER
    return state


def append(term: int, prev: int, prev_term: int, *terms: int, commit: int = 0, sender: int = 2) -> Receive:
    fresh = tuple(Entry(each, prev + 1 + offset, b"%d" % each) for offset, each in enumerate(terms))
    return Receive(
        AppendRequest(
            sender=sender, to=1, term=term, prev_log_index=prev, prev_log_term=prev_term, entries=fresh,
            leader_commit=commit,
        )
    )


def test_step_gives_the_same_answer_again_from_an_old_state() -> None:
    old = leader()
    first = step(old, Propose((b"a",)))
    step(first.state, Propose((b"b",)))
    again = step(old, Propose((b"a",)))
    assert again == first
    assert state_digest(again.state) == state_digest(first.state)


def test_an_idle_tick_has_no_effects() -> None:
    assert step(node(), Tick()).effects is NO_EFFECTS


def test_a_digest_tells_states_apart() -> None:
    state = node()
    assert state_digest(state) != state_digest(step(state, Tick()).state)


def test_a_digest_is_the_same_in_another_process_and_hash_seed() -> None:
    program = (
        "from tercet.core.raft import *\n"
        "s = restart(Config(node_id=1, voters=(1,), seed=3), HardState())\n"
        "for _ in range(40): s = step(s, Tick()).state\n"
        "s = step(s, Propose((b'a', b'b'))).state\n"
        "print(state_digest(s).hex())"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert seen[0] == seen[1] != b""


def test_a_late_answer_of_the_disk_for_replaced_entries_is_ignored() -> None:
    state = step(node(), append(1, 0, 0, 1, 1)).state
    state = step(state, append(2, 0, 0, 2, sender=3)).state
    after = step(state, Persisted(2, 1))
    assert after.state.persisted_index == 0
    assert after.effects.refusals[0].rule == "persisted/replaced"


def test_an_entry_written_replaced_and_written_again_is_durable_only_the_second_time() -> None:
    state = step(node(), append(1, 0, 0, 1)).state
    state = step(state, append(2, 0, 0, 2, sender=3)).state
    state = step(state, append(3, 0, 0, 1)).state
    assert step(state, Persisted(1, 1, 1)).state.persisted_index == 0
    assert step(state, Persisted(1, 1, 3)).state.persisted_index == 1


def test_a_write_of_an_earlier_term_counts_when_nothing_was_replaced() -> None:
    state = step(node(), append(1, 0, 0, 1)).state
    state = step(state, append(2, 1, 1, 2, sender=3)).state
    assert step(state, Persisted(1, 1, 1)).state.persisted_index == 1


def test_an_append_that_tells_of_a_commit_releases_what_is_durable() -> None:
    state = step(node(), append(1, 0, 0, 1, 1)).state
    state = step(state, Persisted(2, 1)).state
    after = step(state, append(1, 2, 1, 1, commit=2))
    assert [entry.index for entry in after.effects.committed] == [1, 2]


def test_a_heartbeat_that_tells_of_a_commit_releases_what_is_durable() -> None:
    state = step(node(), append(1, 0, 0, 1, 1, 1)).state
    state = step(state, Persisted(2, 1)).state
    beat = HeartbeatRequest(sender=2, to=1, term=1, leader_commit=3, commit_term=1)
    after = step(state, Receive(beat))
    assert [entry.index for entry in after.effects.committed] == [1, 2]
    assert [entry.index for entry in step(after.state, Persisted(3, 1)).effects.committed] == [3]


@pytest.mark.parametrize(("event", "answer"), [
    (append(1, 0, 0, 1), True), (append(1, 7, 1, 1), False),  # accepted, refused
    (Receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0)), None),
])  # fmt: skip
def test_whatever_the_leader_says_starts_the_election_timer_anew(event: Receive, answer: bool | None) -> None:
    state = step(node(), append(1, 0, 0)).state
    for _ in range(5):
        state = step(state, Tick()).state
    assert state.election_elapsed == 5
    after = step(state, event)
    replies = [each for each in after.effects.send_after_persist if isinstance(each, AppendReply)]
    replies += [each for each in after.effects.send if isinstance(each, AppendReply)]
    assert [reply.success for reply in replies] == ([] if answer is None else [answer])
    assert after.state.election_elapsed == 0


def test_what_is_applied_is_not_applied_less() -> None:
    """A driver's late word of what it applied earlier."""
    state = step(node(), append(1, 0, 0, 1, 1, commit=2)).state
    state = step(step(state, Persisted(2, 1)).state, Applied(2)).state
    assert step(state, Applied(1)).state is state


def test_committed_entries_wait_for_the_own_disk() -> None:
    after = step(node(), append(1, 0, 0, 1, commit=1))
    assert after.state.commit_index == 1
    assert after.effects.committed == ()
    assert [entry.index for entry in step(after.state, Persisted(1, 1)).effects.committed] == [1]


def test_the_commit_hint_never_speaks_of_entries_that_are_not_durable() -> None:
    hard_state = step(node(), append(1, 0, 0, 1, commit=1)).effects.hard_state
    assert hard_state == HardState(1, 0, 0)


def test_replacing_a_committed_entry_stops_the_node() -> None:
    state = step(node(), append(1, 0, 0, 1, commit=1)).state
    with pytest.raises(Corruption, match="replace entry 1"):
        step(state, append(2, 0, 0, 2, commit=1, sender=3))


def test_a_leader_that_knows_of_lost_entries_stops_the_node() -> None:
    message = HeartbeatRequest(sender=2, to=1, term=1, leader_commit=4, commit_term=1)
    asks = step(node(), Receive(message)).state
    with pytest.raises(Corruption, match="durable entries were lost"):
        step(asks, Receive(msgspec.structs.replace(message, lost=True)))


def test_two_leaders_in_one_term_stop_the_node() -> None:
    with pytest.raises(Corruption, match="leads term 1"):
        step(leader(), Receive(HeartbeatRequest(sender=2, to=1, term=1, leader_commit=0)))


def test_an_acknowledgement_beyond_the_log_is_refused() -> None:
    reply = AppendReply(sender=2, to=1, term=1, success=True, match_index=9)
    after = step(leader(), Receive(reply))
    assert after.state.commit_index == 0
    assert after.effects.refusals[0].rule == "append/ack-beyond-log"


def test_a_window_limits_what_is_in_flight() -> None:
    state = restart(Config(node_id=1, voters=(1, 2), max_inflight_appends=2), HardState())
    while state.role != Role.PRE_CANDIDATE:
        state = step(state, Tick()).state
    for pre_vote in (True, False):
        reply = VoteReply(sender=2, to=1, term=1, vote_granted=True, pre_vote=pre_vote)
        state = step(state, Receive(reply)).state
    state = step(state, Receive(AppendReply(sender=2, to=1, term=1, success=True, match_index=1))).state
    sent = 0
    for _ in range(5):
        state, effects = step(state, Propose((b"x",)))
        sent += len(effects.send)
    assert sent == 2
    answer = AppendReply(sender=2, to=1, term=1, success=True, match_index=3)
    after = step(state, Receive(answer))
    (message,) = [each for each in after.effects.send if isinstance(each, AppendRequest)]
    assert [entry.index for entry in message.entries] == [4, 5, 6]


def test_a_message_for_somebody_else_is_refused() -> None:
    message = HeartbeatRequest(sender=2, to=7, term=9, leader_commit=0)
    after = step(node(), Receive(message))
    assert after.state.current_term == 0
    assert after.effects.refusals[0].rule == "message/stranger"


@pytest.mark.parametrize(
    "settings",
    [
        {"node_id": 0},
        {"election_ticks": 1},
        {"heartbeat_ticks": 0},
        {"max_append_entries": 0},
        {"voters": (1, 1)},
    ],
)
def test_wrong_settings_are_refused_at_construction(settings: dict[str, object]) -> None:
    values: dict[str, object] = {"node_id": 1, "voters": (1, 2, 3), **settings}
    with pytest.raises(ValueError, match="need"):
        Config(**values)  # type: ignore[arg-type]


def test_a_disk_that_lost_what_was_applied_does_not_start() -> None:
    with pytest.raises(ValueError, match="up to index 3"):
        restart(Config(node_id=1, voters=(1,)), HardState(1, 0, 0), (Entry(1, 1),), applied=3)


def test_a_disk_that_lost_the_term_of_its_entries_does_not_start() -> None:
    with pytest.raises(ValueError, match="no term above 1"):
        restart(Config(node_id=1, voters=(1,)), HardState(1), (Entry(2, 1),))


def test_a_restarted_node_hands_out_what_it_knows_to_be_committed() -> None:
    entries = (Entry(1, 1), Entry(1, 2))
    state = restart(Config(node_id=1, voters=(1, 2)), HardState(1, 0, 2), entries, applied=1)
    assert [entry.index for entry in step(state, Tick()).effects.committed] == [2]


def test_every_rule_is_named_somewhere_and_every_name_is_a_rule() -> None:
    folder = Path(tercet.core.raft.__file__).parent
    named: set[str] = set()
    for path in folder.glob("*.py"):
        if path.name not in ("refusals.py", "types.py"):
            named |= set(re.findall(r'"([a-z]+/[a-z]+(?:-[a-z]+)*)"', path.read_text()))
    assert named == set(RULES)


def test_every_rule_has_a_sentence_and_a_source() -> None:
    assert all(rule.sentence.endswith(".") and rule.source for rule in RULES.values())


def test_messages_survive_the_wire() -> None:
    message = append(3, 1, 1, 3).message
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=AppendRequest) == message

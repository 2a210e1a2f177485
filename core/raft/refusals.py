"""Every reason for which the core refuses or ignores something, as data: rule -> (sentence, source).

A ``Refusal`` in the effects names a rule of this table, so traces, transcripts and the player can say in
words why nothing happened. Sections are those of Ongaro and Ousterhout 2014 unless the thesis is named.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RULES", "Rule"]


class Rule(NamedTuple):
    sentence: str
    source: str


RULES: dict[str, Rule] = {
    "term/stale": Rule("The sender's term is over: it is told the newer one.", "5.1"),
    "message/stranger": Rule("The message is for another node, or from nobody this node counts with.", "6"),
    "message/late-reply": Rule("The reply answers a question this node no longer asks.", "5.2"),
    "vote/already-voted": Rule("A node gives at most one vote in a term.", "5.2"),
    "vote/counted-already": Rule("The answer of that voter is counted already.", "5.2"),
    "vote/log-not-up-to-date": Rule("The candidate's log ends before this node's log does.", "5.4.1"),
    "vote/leader-alive": Rule(
        "A leader was heard within the smallest election timeout: nobody may replace it.", "6; thesis 4.2.3"
    ),
    "election/not-a-voter": Rule("Only a voter may campaign.", "6; thesis 4.2.1"),
    "election/no-quorum-heard": Rule(
        "The leader has not heard a majority for an election timeout and steps down.", "thesis 6.2"
    ),
    "append/no-match": Rule("There is no entry of that term before the new entries.", "5.3"),
    "append/compacted": Rule(
        "What comes before the new entries is compacted here: what is committed is confirmed instead.",
        "5.3; 7",
    ),
    "append/stale-refusal": Rule(
        "The refusal is older than what the follower has confirmed since, or than the snapshot on its way.",
        "5.3",
    ),
    "append/ack-beyond-log": Rule("The follower confirms entries this leader does not have.", "5.3"),
    "append/old-ack": Rule("The follower has confirmed more since.", "5.3"),
    "propose/no-leader": Rule("There is no leader to append the proposal.", "8"),
    "propose/not-leader": Rule("A forwarded proposal reached a node that does not lead.", "8"),
    "read/no-leader": Rule("There is no leader that could confirm a read index.", "8; thesis 6.4"),
    "read/not-leader": Rule("A forwarded read reached a node that does not lead.", "8; thesis 6.4"),
    "read/old-round": Rule(
        "The heartbeat left before the round that the waiting reads need: its answer confirms none of them.",
        "thesis 6.4",
    ),
    "read/no-such-round": Rule("The answer is to a heartbeat that this leader has not sent.", "thesis 6.4"),
    "read/leader-changed": Rule("The leader stepped down before a majority confirmed it.", "thesis 6.4"),
    "propose/transferring": Rule("The leader hands over and takes no more proposals.", "thesis 3.10"),
    "propose/uncommitted-limit": Rule(
        "The leader's proposals that wait for a majority would exceed their limit.", "thesis 11.1"
    ),
    "election/installing": Rule("A snapshot is being loaded: the log behind it is not durable yet.", "7"),
    "election/change-unapplied": Rule(
        "A configuration change is committed but not applied: the votes of the old configuration may decide "
        "nothing any more.",
        "6; thesis 4.1",
    ),
    "append/installing": Rule("A snapshot is being loaded: entries are taken when it is durable.", "7"),
    "append/other-session": Rule(
        "The reply is from before the member was removed and added again: it says nothing about it now.",
        "6; thesis 4.1",
    ),
    "heartbeat/not-held": Rule(
        "The log does not hold the entry that is committed: an earlier life of this member had confirmed it, "
        "or this one has lost it. The leader is asked.",
        "6; thesis 4.1",
    ),
    "snapshot/stale": Rule("The log is committed, or compacted, beyond this snapshot already.", "7"),
    "snapshot/not-needed": Rule("The log holds all the snapshot stands for: it is committed instead.", "7"),
    "snapshot/installing": Rule("Another snapshot is being loaded.", "7"),
    "snapshot/malformed": Rule("The snapshot's configuration is none.", "7"),
    "conf/not-ready": Rule(
        "The leader has not committed an entry of its own term yet.", "6; thesis 4.1, erratum of 2015"
    ),
    "conf/pending": Rule("The change before has not been applied yet: one at a time.", "6; thesis 4.1"),
    "conf/joint": Rule("The configuration is joint: it must be left first.", "6; thesis 4.3"),
    "conf/not-joint": Rule("The configuration is not joint: there is nothing to leave.", "6; thesis 4.3"),
    "conf/no-voters": Rule("There must be somebody to vote, before and after a change.", "6"),
    "conf/bad-id": Rule("0 stands for nobody and cannot be a member.", "6"),
    "conf/malformed": Rule("The entry's data is no configuration change.", "6"),
    "conf/refused": Rule("The state machine refused the change: it is as if it were empty.", "6"),
    "conf/leader-removed": Rule(
        "The leader is not among the voters any more and steps down.", "6; thesis 4.2.2"
    ),
    "transfer/no-leader": Rule("There is no leader that could hand over.", "thesis 3.10"),
    "transfer/not-leader": Rule("A forwarded transfer reached a node that does not lead.", "thesis 3.10"),
    "transfer/already-leader": Rule("The target leads already.", "thesis 3.10"),
    "transfer/not-a-voter": Rule("The target is no voter, so it cannot lead.", "thesis 3.10"),
    "transfer/under-way": Rule("A transfer to this very target is under way.", "thesis 3.10"),
    "transfer/replaced": Rule("A transfer to another target took this one's place.", "thesis 3.10"),
    "transfer/timed-out": Rule("The target does not lead after an election timeout.", "thesis 3.10"),
    "persisted/replaced": Rule("What became durable has been replaced in the log meanwhile.", "5.3"),
}

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
    "vote/log-not-up-to-date": Rule("The candidate's log ends before this node's log does.", "5.4.1"),
    "vote/leader-alive": Rule(
        "A leader was heard within the smallest election timeout: nobody may replace it.", "6; thesis 4.2.3"
    ),
    "election/not-a-voter": Rule("Only a voter may campaign.", "6; thesis 4.2.1"),
    "election/no-quorum-heard": Rule(
        "The leader has not heard a majority for an election timeout and steps down.", "thesis 6.2"
    ),
    "append/no-match": Rule("There is no entry of that term before the new entries.", "5.3"),
    "append/stale-refusal": Rule("The refusal is older than what the follower has confirmed since.", "5.3"),
    "append/ack-beyond-log": Rule("The follower confirms entries this leader does not have.", "5.3"),
    "propose/no-leader": Rule("There is no leader to append the proposal.", "8"),
    "propose/not-leader": Rule("A forwarded proposal reached a node that does not lead.", "8"),
    "read/no-leader": Rule("There is no leader that could confirm a read index.", "8; thesis 6.4"),
    "read/not-leader": Rule("A forwarded read reached a node that does not lead.", "8; thesis 6.4"),
    "read/leader-changed": Rule("The leader stepped down before a majority confirmed it.", "thesis 6.4"),
    "persisted/replaced": Rule("What became durable has been replaced in the log meanwhile.", "5.3"),
}

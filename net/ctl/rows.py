"""Answers as rows of words: what the table format frames and the simple one joins with commas."""

from __future__ import annotations

from typing import Any, Final

from .text import size_text

__all__ = ["HEADS", "ROWS"]


def _member_list(answer: Any) -> list[list[str]]:
    return [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            _yes(member.isLearner),
        ]
        for member in answer.members
    ]


def _health(answers: Any) -> list[list[str]]:
    return [[one.endpoint, _yes(one.healthy), one.took, one.error] for one in answers]


def _status(answers: Any) -> list[list[str]]:
    return [
        [
            where,
            f"{status.header.member_id:x}",
            status.version,
            size_text(status.dbSize),
            _yes(status.leader == status.header.member_id),
            _yes(status.isLearner),
            str(status.raftTerm),
            str(status.raftIndex),
            str(status.raftAppliedIndex),
            ", ".join(status.errors),
        ]
        for where, status in answers
    ]


def _hashkv(answers: Any) -> list[list[str]]:
    return [[where, str(one.hash)] for where, one in answers]


def _db_status(answer: Any) -> list[list[str]]:
    return [
        [f"{answer.hash:x}", str(answer.revision), str(answer.total_key), size_text(answer.total_size)]
    ]


def _yes(value: bool) -> str:
    return "true" if value else "false"


HEADS: Final = {
    "member_list": ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"),
    "health": ("endpoint", "health", "took", "error"),
    "status": (
        "endpoint", "ID", "version", "db size", "is leader", "is learner", "raft term", "raft index",
        "raft applied index", "errors",
    ),
    "hashkv": ("endpoint", "hash"),
    "db_status": ("hash", "revision", "total keys", "total size"),
}  # fmt: skip
ROWS: Final = {
    "member_list": _member_list,
    "health": _health,
    "status": _status,
    "hashkv": _hashkv,
    "db_status": _db_status,
}

"""``/debug/vars`` and ``/config/local/log``: how an operator looks into a member, and makes it talk more.

The first shows what etcd's page shows of Raft; what it tells of Go's memory has no counterpart here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..log import LEVELS
from ..world import Probe
from .gateway_json import dumps

__all__ = ["LogLevelRefused", "set_log_level", "variables"]


class LogLevelRefused(ValueError):
    """The body of a request names no level."""


class _Level(msgspec.Struct):
    Level: str = ""


def variables(node: Any) -> bytes:
    """The JSON of ``/debug/vars``."""
    state = "StateLeader" if node.is_leader else "StateLearner" if node.is_learner else "StateFollower"
    raft = {
        "id": f"{node.member_id:x}",
        "term": node.term,
        "commit": node.commit_index,
        "applied": node.applied_index,
        "lead": f"{node.leader_id:x}",
        "raftState": state,
    }
    return f'{{\n"raft.status": {dumps(raft)}\n}}\n'.encode()


def set_log_level(probe: Probe, body: bytes) -> None:
    """Log from the level on that the body names, ``{"Level":"DEBUG"}``.

    Raises ``LogLevelRefused``; a probe without levels of its own is left as it is.
    """
    try:
        asked = msgspec.json.decode(body, type=_Level).Level
    except msgspec.DecodeError:
        raise LogLevelRefused("Invalid json body") from None
    level = asked.lower()
    if level not in LEVELS:
        raise LogLevelRefused(f"Invalid log level {asked}")
    change = getattr(probe, "set_log_level", None)
    if change is not None:
        change(level)

"""One question for any history: is it what the model promises? Picks the checkers by the header's model.

For etcd histories the revision-guided check and the watch guarantees; for the others the search.
"""

from __future__ import annotations

from .checkers.etcd import examine
from .checkers.lease import check_leases
from .checkers.linearizable import check_linearizable
from .checkers.models import MODELS
from .checkers.verdict import Limits, Verdict
from .checkers.watch import check_watches
from .history import History

__all__ = ["MODEL_NAMES", "check_history"]

MODEL_NAMES = ("etcd", *sorted(MODELS))


def check_history(
    history: History, model: str | None = None, limits: Limits | None = None, *, core: bool = True
) -> Verdict:
    """Check a history; ``model`` None takes the one its header names.

    Raises:
        ValueError: an unknown model, or operations that the model does not have.
    """
    name = model or history.header.model
    if name == "etcd":
        found = examine(history, limits)
        if found.verdict.verdict == "valid" and history.watches:
            watched = check_watches(history, found)
            if watched.verdict != "valid":
                return watched
        if found.verdict.verdict == "valid" and any(o.f == "grant" for o in history.operations):
            leased = check_leases(history)
            if leased.verdict != "valid":
                return leased
        return found.verdict
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: need one of {', '.join(MODEL_NAMES)}")
    return check_linearizable(history.operations, MODELS[name], limits, core=core)

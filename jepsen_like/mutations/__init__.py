"""Planted bugs, by name: what the harness must find. The shipped code has no switch for them."""

from __future__ import annotations

from . import (
    clients,
    raft_logs,
    raft_members,
    raft_reads,
    raft_stability,
    raft_votes,
    replicated,
    storage,
    watches,
)
from .mutation import Mutation

__all__ = ["MUTATIONS", "Mutation", "resolve_mutation"]

MUTATIONS: dict[str, Mutation] = {
    mutation.name: mutation
    for module in (
        raft_votes, raft_logs, raft_members, raft_reads, raft_stability, storage, replicated, watches,
        clients,
    )
    for mutation in module.MUTATIONS
}  # fmt: skip


def resolve_mutation(name: str) -> Mutation:
    """The mutation of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return MUTATIONS[name]
    except KeyError:
        raise ValueError(f"no mutation {name!r}; there are {', '.join(MUTATIONS)}") from None

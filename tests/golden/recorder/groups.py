"""The groups of cases: each is one function that gets a runner, and one fresh server or cluster."""

from __future__ import annotations

__all__ = ["GROUPS", "Group", "group"]


class Group:
    def __init__(self, fn, nodes, flags, slow, spawns, ids):
        self.fn, self.name, self.nodes, self.flags = fn, fn.__name__.strip("_"), nodes, list(flags)
        self.slow, self.spawns, self.ids = slow, spawns, ids

GROUPS = []
def group(nodes=1, flags=(), slow=False, spawns=False, ids=True):
    def deco(fn):
        GROUPS.append(Group(fn, nodes, flags, slow, spawns, ids))
        return fn
    return deco

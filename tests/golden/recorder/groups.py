"""The groups of cases: each is one function that gets a runner, and one fresh server or cluster."""

from __future__ import annotations

__all__ = ["CALM", "GROUPS", "PATIENT", "Group", "group"]


class Group:
    def __init__(self, fn, nodes, flags, slow, spawns, ids, env):
        self.fn, self.name, self.nodes, self.flags = fn, fn.__name__.strip("_"), nodes, list(flags)
        self.slow, self.spawns, self.ids, self.env = slow, spawns, ids, dict(env)

GROUPS = []
#: The first leader stays, however long a disk or the machine stands still.
CALM = ("--election-timeout=5000",)
#: A login is part of dialling, for which etcdctl has two seconds: passwords are hashed slowly, on purpose.
PATIENT = {"ETCDCTL_DIAL_TIMEOUT": "30s"}
def group(nodes=1, flags=(), slow=False, spawns=False, ids=True, env=()):
    def deco(fn):
        GROUPS.append(Group(fn, nodes, flags, slow, spawns, ids, env))
        return fn
    return deco

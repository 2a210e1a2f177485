"""What a member finds on its disk when it starts, made into a core and a machine that can go on.

The log says what was promised, the keeper's database what was applied; ``match_log`` makes the two agree. A
new member's log begins with the entries that name the first members. ``--force-new-cluster`` adds what makes
this member the only one. The number of the start is counted last, before anything is numbered by it.
"""

from __future__ import annotations

import posixpath
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import msgspec

from tercet.core import raft
from tercet.core.alone import stand_alone
from tercet.core.errors import Corruption
from tercet.core.members import first_voters
from tercet.core.raft.types import Entry, HardState

from .bootstrap import Start, keep_token
from .config import MemberConfig
from .keeper import Keeper, KeeperLimits
from .match_log import match_log
from .storage import Storage
from .world import World

__all__ = ["Found", "recover"]

ELECTION_TICKS_MIN: Final = 2


@dataclass(frozen=True, slots=True)
class Found:
    """The disk, as it stands, and what it was made into."""

    storage: Storage
    keeper: Keeper
    state: raft.RaftState
    incarnation: int  # the number of this start, from 1


async def recover(world: World, config: MemberConfig, start: Start, resources: ExitStack) -> Found:
    """Open the log and the database of ``config.data_dir``; ``resources`` closes what was opened.

    Raises:
        Rejected: The data directory is in use, or belongs to somebody else.
        Corruption: The log cannot be trusted, or the disk failed.
    """
    member_id = start.identity.member_id
    storage, recovered = await Storage.open(
        world, config.data_dir, start.identity,
        folder=config.log_folder, segment_bytes=config.wal_segment_bytes,
    )
    resources.callback(storage.close)
    hard_state, entries = recovered.hard_state, recovered.entries
    if start.entries and not entries and hard_state == HardState():
        hard_state, entries = HardState(start.entries[-1].term, 0, len(start.entries)), start.entries
        await storage.append(hard_state, entries)
    keeper = Keeper(world, config.data_dir, storage, _keeper_limits(config))
    resources.callback(keeper.close)
    await _defragment(world, keeper, config.bootstrap_defrag_threshold_megabytes)
    log = msgspec.structs.replace(recovered, hard_state=hard_state, entries=entries)
    hard_state, entries, base_term = await match_log(storage, log, keeper.meta)
    applied = keeper.meta.configuration if keeper.meta.index else None
    if config.force_new_cluster and not recovered.fresh:
        hard_state, added = stand_alone(member_id, hard_state, entries, applied)
        await storage.append(hard_state, added)
        entries += added
        world.probe.log("warn", "forced a new cluster of this member alone", removed=len(added))
    world.probe.log(
        "info",
        "recovered the log",
        entries=len(entries),
        term=hard_state.current_term,
        fresh=recovered.fresh,
    )
    if recovered.fresh:
        keep_token(world, config)
    state = raft.restart(
        _raft_config(config, member_id, entries), hard_state, entries, keeper.meta.index, applied,
        base_term=base_term,
    )  # fmt: skip
    return Found(storage, keeper, state, _next_incarnation(world, config.data_dir))


async def _defragment(world: World, keeper: Keeper, megabytes: int) -> None:
    """Give holes of so many megabytes back to the file system; 0: never."""
    holes = keeper.backend.size() - keeper.backend.size_in_use()
    if megabytes and holes >= megabytes << 20:
        await keeper.backend.defragment()
        world.probe.log("info", "defragmented before the start", freed_bytes=holes)


def _raft_config(config: MemberConfig, member_id: int, entries: tuple[Entry, ...]) -> raft.Config:
    return raft.Config(
        node_id=member_id,
        voters=first_voters(entries),
        election_ticks=max(ELECTION_TICKS_MIN, config.election_timeout_ms // config.heartbeat_interval_ms),
        pre_vote=config.pre_vote,
        max_inflight_bytes=config.max_inflight_bytes,
        max_uncommitted_bytes=config.max_uncommitted_bytes,
        read_only_lease=config.read_only_lease,
        seed=config.seed,
    )


def _keeper_limits(config: MemberConfig) -> KeeperLimits:
    return KeeperLimits(
        snapshot_count=config.snapshot_count,
        catchup_entries=config.snapshot_catchup_entries,
        resident_bytes=config.resident_value_bytes,
        scrub_records=config.compaction_batch_limit,
        scrub_seconds=config.compaction_sleep_interval,
    )


def _next_incarnation(world: World, data_dir: str) -> int:
    """Count this start of the member, durably, before it numbers anything."""
    path = posixpath.join(data_dir, "member", "incarnation")
    previous = 0
    if world.disk.exists(path):
        text = world.disk.read(path)
        if not text.strip().isdigit():
            raise Corruption(f"{path} should hold a number: restore it from a count that is surely higher")
        previous = int(text)
    world.disk.write_atomic(path, b"%d\n" % (previous + 1))
    return previous + 1

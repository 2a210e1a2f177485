"""What a member says about itself through the log: its name and client URLs, and the cluster's version.

Both are asked for again until they are there: a cluster without a leader takes nothing.
"""

from __future__ import annotations

from typing import Final

from tercet.core.machine import Command
from tercet.core.raft.types import Role, SoftState
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal

from .config import MemberConfig
from .node import Node
from .world import World

__all__ = ["keep_version", "log_soft_state", "publish"]

PUBLISH_RETRY_SECONDS: Final = 0.5
VERSION_POLL_SECONDS: Final = 0.1


async def publish(world: World, config: MemberConfig, node: Node) -> None:
    """Tell the cluster this member's name and client URLs; returns once the cluster knows."""
    attributes = internal.MemberAttributes(
        member_id=node.member_id, name=config.name, client_urls=config.advertise_client_urls
    ).SerializeToString()
    while True:
        try:
            await node.propose_and_wait(Command.MEMBER_ATTRIBUTES, attributes)
            break
        except RpcError as error:
            world.probe.log("warn", "failed to publish local member", error=error.message)
        await world.clock.sleep(PUBLISH_RETRY_SECONDS)
    world.probe.log(
        "info",
        "published local member to cluster through raft",
        name=config.name,
        client_urls=list(config.advertise_client_urls),
    )


async def keep_version(world: World, config: MemberConfig, node: Node) -> None:
    """As leader, set the cluster's version once; as any member, say when it is known."""
    major, minor, *_ = config.reported_version.split(".")
    wanted = f"{major}.{minor}.0"
    while not node.machine.cluster_version:
        if node.is_leader:
            try:
                payload = internal.ClusterVersion(version=wanted).SerializeToString()
                await node.propose_and_wait(Command.CLUSTER_VERSION, payload)
                world.probe.log("info", "set initial cluster version", cluster_version=wanted)
            except RpcError as error:
                world.probe.log("warn", "failed to set the cluster version", error=error.message)
        await world.clock.sleep(VERSION_POLL_SECONDS)
    known = node.machine.cluster_version.rpartition(".")[0]
    world.probe.log("info", "enabled capabilities for version", cluster_version=known)


def log_soft_state(world: World, soft_state: SoftState) -> None:
    """Log that role, leader or term have changed."""
    world.probe.log(
        "info",
        "raft state changed",
        role=Role(soft_state.role).name.lower(),
        leader=f"{soft_state.leader_id:x}",
        term=soft_state.current_term,
    )

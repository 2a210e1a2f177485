"""Every kind of fault can be drawn, stored, carried out and taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from tercet.net.world import World
from tercet.sim.breakers import BREAKERS
from tercet.sim.chaos import Chaos
from tercet.sim.engine import SECOND
from tercet.sim.faults import KINDS, LEADER, Fault, Schedule, describe_schedule, draw_schedule, kinds_named
from tercet.sim.operator import OPERATIONS
from tercet.sim.world import SimWorld

NODES = ("n1", "n2", "n3")


async def busy(world: World) -> None:
    """Uses the disk and the network all the time."""
    world.disk.make_dirs("/d")
    file = world.disk.open("/d/f", create=True)
    while True:
        file.write_at(0, b"x")
        world.probe.point("written")
        await file.sync()
        await world.clock.sleep(0.05)


class Clerk:
    """An operator that does nothing but count what is under way."""

    def __init__(self) -> None:
        self.jobs = 0

    def __call__(self, fault: Fault, targets: tuple[str, ...]) -> Callable[[], None]:
        self.jobs += 1

        def mend() -> None:
            self.jobs -= 1

        return mend


@dataclass
class Snapshot:
    """What a fault may change, as numbers."""

    values: dict[str, object]

    @classmethod
    def of(cls, sim: SimWorld) -> Snapshot:
        values: dict[str, object] = {}
        for link in sim.network.links(NODES, NODES):
            values[f"{link.source.name}>{link.target.name}"] = (
                link.cut, link.clogged, link.loss, link.extra_latency, link.bytes_per_second, link.chunk_rate,
            )  # fmt: skip
        for name in NODES:
            host = sim.host(name)
            offset = round(host.clock.wall_ns() - sim.engine.now, -9)
            values[name] = (
                host.up, host.paused, host.step_ns, host.refuses,
                host.incarnations, sim.running(name), host.clock.rate_ppm,
                offset, host.disk.slow_factor, host.disk.capacity, host.disk.error_rate, host.disk.lying,
            )  # fmt: skip
        return cls(values)


def play(schedule: Schedule, until: float, *, heal: bool = False) -> tuple[Chaos, Snapshot, Snapshot]:
    """Play a schedule; the world half a second in, and at the end."""
    sim = SimWorld(5, NODES)

    async def main() -> tuple[Chaos, Snapshot, Snapshot]:
        connections = []
        for name in NODES:
            sim.start(name, busy)
        listener = await sim.world_for("n2").net.listen("n2", 80)
        connections.append(await sim.world_for("n1").net.connect("n2", 80))
        connections.append(await listener.accept())
        chaos = Chaos(sim, NODES, lambda: "n1", Clerk())
        await sim.sleep(0.1)
        chaos.play(schedule)
        await sim.sleep(0.5)
        middle = Snapshot.of(sim)
        await sim.sleep(until)
        if heal:
            chaos.heal()
        return chaos, middle, Snapshot.of(sim)

    return sim.run(main)


def calm() -> Snapshot:
    return play((), 3.0)[2]


def a_fault(kind: str) -> Fault:
    row = KINDS[kind]
    targets = {"one": ("n1",), "some": ("n1",), "pair": ("n1", "n2"), "all": ()}[row.targets]
    if kind == "isolate-leader":
        targets = (LEADER,)
    return Fault(at=100, kind=kind, duration=1500 if row.durations[1] else 0, targets=targets,
                 amount=max(row.amounts[1] // 2, row.amounts[0], 2) if row.unit else 0)  # fmt: skip


def test_every_kind_has_its_breaker_and_nothing_else_has() -> None:
    assert set(BREAKERS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fires_and_changes_the_world(kind: str) -> None:
    fault = a_fault(kind)
    if kind == "crash-at-network":
        fault = msgspec.structs.replace(fault, kind="crash-at-disk", amount=3)
    elif kind in ("crash-at-disk", "crash-at-point", "crash-at-rare-point", "crash-in-sync"):
        fault = msgspec.structs.replace(fault, amount=3)
    chaos, middle, _ = play((fault,), 3.0)
    assert chaos.fired == {fault.kind: 1}
    assert [band.kind for band in chaos.bands] == [fault.kind]
    if kind not in ("reset", "half-open", "clock-strobe", *OPERATIONS):
        assert middle != calm()


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("clock-leap",)])
def test_every_fault_is_taken_back(kind: str) -> None:
    chaos, _, after = play((a_fault(kind),), 3.0)
    expected = calm()
    for name in NODES:  # restarts are allowed to leave a higher incarnation
        row = list(after.values[name])  # type: ignore[call-overload]
        row[4] = expected.values[name][4]  # type: ignore[index]
        after.values[name] = tuple(row)
    assert after == expected
    assert all(band.end is not None for band in chaos.bands if not band.kind.startswith("crash"))


def test_healing_ends_what_is_on_and_starts_what_is_down() -> None:
    schedule = (
        Fault(50, "partition", 60_000, ("n1",)),
        Fault(100, "power-cut", 60_000, ("n2",)),
        Fault(150, "pause", 60_000, ("n3",)),
        Fault(9_000, "kill", 1_000, ("n3",)),
    )
    chaos, middle, after = play(schedule, 1.0, heal=True)
    assert middle.values["n2"] != after.values["n2"]
    assert after.values["n1>n2"] == calm().values["n1>n2"]
    assert chaos.fired == {"partition": 1, "pause": 1, "power-cut": 1}


def test_overlapping_faults_of_one_kind_end_one_by_one() -> None:
    schedule = (Fault(0, "isolate", 2_000, ("n1",)), Fault(100, "isolate", 500, ("n1",)))
    _, middle, after = play(schedule, 0.2)
    assert middle.values["n1>n2"][0] == 2  # type: ignore[index]
    assert after.values["n1>n2"][0] == 1  # type: ignore[index]


def test_a_fault_on_the_leader_without_a_leader_does_not_fire() -> None:
    sim = SimWorld(0, NODES)

    async def main() -> dict[str, int]:
        chaos = Chaos(sim, NODES, lambda: None)
        chaos.play((Fault(0, "isolate-leader", 100, (LEADER,)),))
        await sim.sleep(1)
        return chaos.fired

    assert sim.run(main) == {}


@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_ring_shows_each_node_another_majority(size: int) -> None:
    names = tuple(f"n{number}" for number in range(size))
    sim = SimWorld(0, names)

    async def main() -> list[frozenset[str]]:
        chaos = Chaos(sim, names, lambda: None)
        chaos.play((Fault(0, "ring", 1000, ()),))
        await sim.sleep(0.5)
        return [
            frozenset(a for a in names if a == b or not sim.network.links([a], [b])[0].cut) for b in names
        ]

    heard = sim.run(main)
    assert len(set(heard)) == size
    assert {len(one) for one in heard} == {size // 2 + 1}


def test_schedules_are_functions_of_their_seed_and_survive_json() -> None:
    schedule = draw_schedule(4, NODES, 15.0)
    assert schedule == draw_schedule(4, NODES, 15.0)
    assert schedule != draw_schedule(5, NODES, 15.0)
    assert msgspec.json.decode(msgspec.json.encode(schedule), type=Schedule) == schedule
    assert len(describe_schedule(schedule)) == len(schedule)


def test_over_many_seeds_every_harmless_kind_is_drawn_and_no_destructive_one() -> None:
    drawn = {fault.kind for seed in range(400) for fault in draw_schedule(seed, NODES, 15.0)}
    assert drawn == {name for name, kind in KINDS.items() if not kind.destructive}


def test_every_seed_switches_whole_families_off() -> None:
    families = {kind.family for kind in KINDS.values() if not kind.destructive}
    for seed in range(50):
        schedule = draw_schedule(seed, NODES, 60.0)
        assert {KINDS[fault.kind].family for fault in schedule} < families


def test_drawn_faults_keep_to_their_ranges_and_end_in_time() -> None:
    for seed in range(200):
        for fault in draw_schedule(seed, NODES, 15.0):
            low, high = KINDS[fault.kind].amounts
            assert low <= fault.amount <= high
            assert fault.at >= 0 and fault.at + fault.duration <= 15_000


def test_kinds_are_named_by_name_family_or_code() -> None:
    assert kinds_named("none") == ()
    assert "lying-disk" not in kinds_named("all")
    assert kinds_named("crash") == tuple(
        name for name, kind in KINDS.items() if kind.family == "crash"
    )
    assert kinds_named("M1") == kinds_named("M2") == ("grow",)
    assert kinds_named("N7, pause") == ("one-way", "deaf", "mute", "pause", "slow-cpu")
    with pytest.raises(ValueError, match="no fault is called 'rain'"):
        kinds_named("rain")


def test_a_strobe_moves_the_clock_to_and_fro_and_leaves_it_right() -> None:
    sim = SimWorld(0, NODES)

    async def main() -> tuple[set[int], int]:
        chaos = Chaos(sim, NODES, lambda: None)
        clock = sim.host("n1").clock
        right = clock.wall_ns() - sim.engine.now
        chaos.play((Fault(0, "clock-strobe", 1000, ("n1",), 700),))
        seen = set()
        for _ in range(50):
            await sim.sleep(0.013)
            seen.add(clock.wall_ns() - sim.engine.now - right)
        await sim.sleep(2)
        return seen, clock.wall_ns() - sim.engine.now - right

    assert sim.run(main) == ({0, 7 * SECOND // 10}, 0)


@pytest.mark.parametrize(
    "kind",
    ["loss", "bandwidth", "chunks", "slow-cpu", "slow-disk", "clock-rate", "disk-full", "disk-errors",
     "lying-disk"],
)  # fmt: skip
def test_the_first_of_two_overlapping_faults_to_end_leaves_the_other_on(kind: str) -> None:
    targets = () if KINDS[kind].targets == "all" else ("n1",)
    one, other = Fault(0, kind, 300, targets, 5), Fault(100, kind, 10_000, targets, 9)
    both = play((one, other), 0.1)[2]
    alone = play((msgspec.structs.replace(other, at=0),), 0.1)[2]
    index = {"loss": 2, "bandwidth": 4, "chunks": 5}.get(kind)
    if index is not None:
        assert both.values["n1>n2"][index] == alone.values["n1>n2"][index] != 0  # type: ignore[index]
    else:
        at = {
            "slow-cpu": 2, "clock-rate": 6, "slow-disk": 8, "disk-full": 9, "disk-errors": 10,
            "lying-disk": 11,
        }  # fmt: skip
        assert both.values["n1"][at[kind]] == alone.values["n1"][at[kind]]  # type: ignore[index]
        assert both.values["n1"][at[kind]] != calm().values["n1"][at[kind]]  # type: ignore[index]
    healed = play((one, other), 0.1, heal=True)[2]
    assert healed.values["n1>n2"] == calm().values["n1>n2"]


def told(schedule: Schedule) -> tuple[Chaos, list[tuple[str, str]]]:
    """Play a schedule for five seconds; the chaos, and what it told."""
    sim = SimWorld(5, NODES)
    heard: list[tuple[str, str]] = []

    async def main() -> Chaos:
        for name in NODES:
            sim.start(name, busy)
        chaos = Chaos(sim, NODES, lambda: None)
        chaos.on_change = lambda what, text: heard.append((what, text))
        chaos.play(schedule)
        await sim.sleep(5)
        chaos.heal()
        return chaos

    return sim.run(main), heard


def test_the_band_of_an_armed_crash_lasts_from_the_crash_to_the_restart() -> None:
    chaos, heard = told((Fault(100, "crash-at-point", 1500, ("n1",), 3),))
    (band,) = chaos.bands
    assert band.end == 1.6 and 0.1 < band.begin < 1.6
    assert heard == [("fault", "crash-at-point n1"), ("heal", "crash-at-point n1")]


def test_an_armed_crash_that_never_fired_tells_nothing() -> None:
    chaos, heard = told((Fault(100, "crash-at-point", 1500, ("n1",), 100_000),))
    assert (chaos.bands, chaos.fired, heard) == ([], {}, [])


def test_crashes_armed_for_two_operations_of_one_host_do_not_replace_each_other() -> None:
    schedule = (
        Fault(0, "crash-at-point", 1000, ("n1",), 5),
        Fault(10, "crash-at-network", 4000, ("n1",), 400),
    )
    chaos, _ = told(schedule)
    assert chaos.fired == {"crash-at-point": 1}
    assert [band.end for band in chaos.bands] == [1.0]

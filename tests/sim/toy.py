"""A small Trio application under every fault, for the determinism tests. Run as a program it prints digests.

Three servers echo what they get and write it to disk; each also talks to the next one, with timeouts and
timers. The chaos task breaks everything that can be broken.
"""

from __future__ import annotations

import sys

import trio

from tercet.net.world import Connection, World
from tercet.sim.world import SimWorld

NAMES = ("a", "b", "c")


async def serve_one(world: World, connection: Connection) -> None:
    file = world.disk.open("/data/log", create=True)
    try:
        while data := await connection.receive(256):
            file.write_at(file.size(), data)
            await file.sync()
            await connection.send_all(data.upper())
    except OSError as error:
        world.probe.log("warn", str(error))
    finally:
        connection.close()


async def accept(world: World, nursery: trio.Nursery) -> None:
    listener = await world.net.listen("0.0.0.0", 4000)
    while True:
        nursery.start_soon(serve_one, world, await listener.accept())


async def talk(world: World, peer: str) -> None:
    chance = world.rng.stream("talk")
    while True:
        try:
            connection = await world.net.connect(peer, 4000)
            try:
                for _ in range(chance.randrange(1, 30)):
                    with world.clock.timeout(0.5):
                        letter = bytes([97 + chance.randrange(26)])
                        await connection.send_all(letter * chance.randrange(1, 900))
                        await connection.receive(100)
                    await world.clock.sleep(chance.random() / 50)
            finally:
                connection.close()
        except OSError as error:
            world.probe.log("warn", str(error))
            await world.clock.sleep(0.1)


async def tick(world: World, event: trio.Event) -> None:
    while True:
        with world.clock.timeout(0.03):
            await event.wait()
        world.probe.point("ticked")


async def program(world: World) -> None:
    world.disk.make_dirs("/data")
    world.disk.sync_dir("/data")
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, world, nursery)
        for peer in NAMES:
            nursery.start_soon(talk, world, peer)
        for _ in range(5):
            nursery.start_soon(tick, world, event)


async def chaos(sim: SimWorld) -> int:
    for name in NAMES:
        sim.start(name, program)
    network = sim.network
    await sim.sleep(0.5)
    for link in network.links(NAMES, NAMES):
        link.loss, link.chunk_rate = 0.02, 0.3
    network.links(["a"], ["b"])[0].cut += 1
    sim.host("a").clock.set_rate(1_040_000)
    await sim.sleep(0.7)
    network.links(["a"], ["b"])[0].cut -= 1
    sim.crash("b")
    network.links(["c"], ["a"])[0].clogged += 1
    await sim.sleep(0.6)
    sim.restart("b")
    network.links(["c"], ["a"])[0].release()
    sim.pause("c")
    network.links(["b"], ["a"])[0].bytes_per_second = 20_000
    await sim.sleep(0.4)
    sim.resume("c")
    network.reset_between(sim.host("a"), sim.host("c"))
    network.halve_between(sim.host("a"), sim.host("b"))
    sim.host("c").clock.advance(3_000_000_000)
    sim.host("a").clock.jump(-5_000_000_000)
    sim.host("a").disk.slow_factor = 20
    sim.host("b").refuses = True
    await sim.sleep(0.5)
    sim.kill("a")
    sim.host("c").disk.error_rate = 0.05
    sim.host("c").arm("ticked", 40)
    sim.host("b").refuses = False
    await sim.sleep(0.3)
    sim.restart("a")
    sim.restart("c")
    sim.host("b").arm("disk", 20)
    await sim.sleep(1.5)
    return sim.engine.events


def digest(seed: int, full_log: bool = False) -> str:
    """Run the toy and return its digest."""
    sim = SimWorld(seed, full_log=full_log)
    sim.run(chaos, sim)
    return f"{sim.engine.digest}/{sim.engine.events}/{len(sim.failures)}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(digest(int(argument)))

"""A small experiment: clients that put and get. Run as a program it prints the digests of seeds."""

from __future__ import annotations

import sys

from tercet.core.errors import TercetError
from tercet.sim.run import Result, Setting, run_simulation


class Load:
    """Counts what it asks and what was answered."""

    def __init__(self, per_second: int = 20) -> None:
        self.operations = 0
        self.answered = 0
        self._pause = 2 / per_second

    async def client(self, setting: Setting) -> None:
        clock = setting.world.clock
        chance = setting.world.rng.stream("load")
        async with setting.client() as client:
            while not setting.stop.is_set():
                self.operations += 1
                try:
                    key = b"key/%d" % chance.randrange(4)
                    if chance.random() < 0.5:
                        await client.put(key, b"%d/%d" % (setting.number, self.operations))
                    else:
                        await client.get(key)
                    self.answered += 1
                except TercetError:
                    pass
                await clock.sleep(chance.random() * self._pause)


def run(seed: int, **options: object) -> tuple[Result, Load]:
    """Run one seed; the options are those of ``run_simulation``."""
    load = Load()
    return run_simulation(seed, load, **{"seconds": 6.0, **options}), load  # type: ignore[arg-type]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(run(int(argument))[0].digest)

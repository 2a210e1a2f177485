"""``tercet sim run`` and ``tercet sim explore``, given the workloads, checkers and planted bugs they need."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tercet.sim.commands import make_sim_group
from tercet.sim.explorer.commands import explore_command
from tercet.sim.run import Experiment

from .checking import check_history
from .mutations import resolve_mutation
from .workloads.mix import PROFILES, Workload

__all__ = ["explore", "run"]


class _Harness:
    """What the simulator's commands want from this layer."""

    workloads = tuple(PROFILES)

    def experiment(self, workload: str, seed: int) -> Workload:
        return Workload(seed, PROFILES[workload], fast_clocks=1.0)

    def judge(self, experiment: Experiment) -> tuple[str, str]:
        assert isinstance(experiment, Workload)
        verdict = check_history(experiment.history())
        return verdict.verdict, verdict.reason

    def mutation(self, name: str) -> AbstractContextManager[None]:
        return resolve_mutation(name).apply()


run = make_sim_group(_Harness()).commands["run"]
explore = explore_command(lambda name: resolve_mutation(name).apply())

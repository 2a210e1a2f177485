"""A trace as lines of text, one step a line: ``tercet trace show``."""

from __future__ import annotations

from collections.abc import Iterator

from tercet.core.trace import Trace

from .trace_view import view_of

__all__ = ["lines_of"]


def lines_of(
    trace: Trace, *, names: tuple[str, ...] = (), everything: bool = False, first: int = 0
) -> Iterator[str]:
    """What happened, in words.

    Args:
        trace: what to show.
        names: only these members; empty for all. Notes to all are always shown.
        everything: quiet steps, too.
        first: position of the first record.
    """
    view = view_of(trace)
    width = max((len(name) for name, _ in view.nodes), default=0)
    start = view.steps[0].time_ns if view.steps else 0
    for position, step in enumerate(view.steps):
        if position < first or (step.weight < 2 and not everything and not step.mismatch):
            continue
        name = view.nodes[step.node][0] if step.node >= 0 else ""
        if names and name and name not in names:
            continue
        why = [f"{sentence} [{source}]" if source else sentence for sentence, source in step.refused]
        words = " · ".join((step.title, *step.details, *why))
        line = f"{position:6d} {(step.time_ns - start) / 1e6:12.3f} ms  {name:{width}}  {words}"
        yield f"{line}  ! {step.mismatch}" if step.mismatch else line

"""Keeping Python's garbage collector from looking at a state while it is built, and after.

Loading a million keys makes millions of objects and no garbage. The collector cannot know: it looked at all
of them time and again, which took as long as the loading itself, and once more, all at once, when the member
was already serving. So it pauses, and what is there at the end is taken out of its sight. What goes away by
counting references still does.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Build something large that stays. Without effect where the collector is off anyway."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

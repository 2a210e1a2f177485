"""What is inside of an exception group when there is only one thing in it."""

from __future__ import annotations

__all__ = ["only_leaf"]


def only_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a group of groups holds, or the innermost group with several."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]
    return found

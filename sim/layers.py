"""Values that overlapping faults set: the newest one counts, and the normal value is back after the last.

A fault that sets a field of something (a link, a disk, a clock) puts a layer on it and takes that very
layer off at its end, whichever of several ends first.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Layers"]


class Layers:
    """The layers that are on, by object and field."""

    def __init__(self) -> None:
        self._values: dict[tuple[object, str], dict[int, object]] = {}
        self._number = 0

    def put(self, target: object, field: str, value: object, normal: object) -> Callable[[], None]:
        """Set ``field`` of ``target``; the function returned takes it off again (once or more often).

        ``normal`` is what the field has without any layer.
        """
        self._number += 1
        number, key = self._number, (target, field)
        self._values.setdefault(key, {})[number] = value
        setattr(target, field, value)

        def take_off() -> None:
            layers = self._values.get(key, {})
            if layers.pop(number, self) is self:
                return
            newest = next(reversed(layers.values()), normal)
            setattr(target, field, newest)
            if not layers:
                del self._values[key]

        return take_off

    def __len__(self) -> int:
        """How many fields of how many objects are not normal."""
        return len(self._values)

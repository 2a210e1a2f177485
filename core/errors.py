"""The tree of errors: what may have happened is the first thing an error says.

``Rejected`` is definite: the operation did not happen and will not happen. ``OutcomeUnknown`` is
indefinite: it may have happened, may still happen, or never. ``Corruption`` says that what was stored
cannot be trusted, so the node stops. A history marks an operation fail, info or nothing by these three.
"""

__all__ = ["Corruption", "OutcomeUnknown", "Rejected", "TercetError"]


class TercetError(Exception):
    """Base of all errors raised on purpose."""


class Rejected(TercetError):
    """The operation did not happen and will not happen; the state is as before."""


class OutcomeUnknown(TercetError):
    """The operation may have happened; a retry may apply it twice."""


class Corruption(TercetError):
    """Stored bytes cannot be trusted; the node must stop and say which file and offset."""

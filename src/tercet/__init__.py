"""Tercet: an etcd-compatible cluster whose whole stack also runs inside a deterministic simulator."""

__all__ = ["__version__"]

__version__ = "0.1.0"

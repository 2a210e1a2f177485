"""``python -m tercet.net.ctl`` is ``tercetctl``."""

from __future__ import annotations

from .main import etcdctl

__all__ = ["etcdctl"]

if __name__ == "__main__":
    etcdctl()

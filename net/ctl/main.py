"""The entry points. Hardly anything is imported before an interrupt ends the program as it ends any other."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable

__all__ = ["etcdctl", "etcdutl"]


def etcdctl() -> None:
    """``tercetctl``."""
    _prepare()
    from .etcdctl_table import ETCDCTL
    from .run import run_program

    _end(lambda: run_program(ETCDCTL, sys.argv[1:], os.environ))


def etcdutl() -> None:
    """``tercetutl``."""
    _prepare()
    from .etcdutl_table import ETCDUTL
    from .run import run_program

    _end(lambda: run_program(ETCDUTL, sys.argv[1:], os.environ))


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # until everything is imported: there is no garbage in that, and looking takes a tenth of it


def _end(run: Callable[[], int]) -> None:
    try:
        status = run()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it may have been closed from the start
                stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads any more
        status = 1
    os._exit(status)  # taking the interpreter apart takes longer than many a command

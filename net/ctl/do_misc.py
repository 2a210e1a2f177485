"""``version`` and ``migrate``."""

from __future__ import annotations

import os

from .context import Context, write
from .failures import ERROR, Failure

__all__ = ["migrate", "version"]


def version(context: Context) -> None:
    """``version``: of the command line whose words these are."""
    program = context.program
    write(f"{program.root.name} version: {program.version}\nAPI version: {program.api_version}\n")


def migrate(context: Context) -> None:
    """``migrate``: there is no store of etcd's API 2 in our data directories, so it ends in an error."""
    if not context.text("transformer"):
        write("using default transformer\n")
    folder = os.path.join(context.text("data-dir"), "member", "snap")
    try:
        os.listdir(folder)
    except OSError as problem:
        raise Failure(ERROR, f"open {folder}: {(problem.strerror or '').lower()}") from None
    raise Failure(ERROR, f"{folder} has no keys of a v2 store")

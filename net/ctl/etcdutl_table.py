"""The commands and flags of etcdutl (etcd 3.5): what works on files, with no cluster."""

from __future__ import annotations

from typing import Final

from .command import Command, Program
from .completion_table import completion
from .etcdctl_table import COMPLETE, SNAPSHOT_FILES, help_command
from .flagset import Flag

__all__ = ["ETCDUTL"]

ETCDUTL: Final = Program(
    Command(
        "etcdutl",
        "An administrative command line tool for etcd3.",
        children=(
            Command(
                "defrag",
                "Defragments the storage of the etcd",
                "do_utility:defrag",
                flags=(
                    Flag(
                        "data-dir",
                        "string",
                        "",
                        "Required. Defragments a data directory not in use by etcd.",
                    ),
                    Flag("wal-dir", "string", "", "Where the log of that data directory is, if elsewhere."),
                ),
            ),
            Command(
                "snapshot <subcommand>", "Manages etcd node snapshots", children=SNAPSHOT_FILES
            ),
            Command(
                "hashkv <filename>",
                "Prints the KV history hash of a given file",
                "do_utility:hashkv",
                flags=(Flag("rev", "int", 0, "maximum revision to hash (default: latest revision)"),),
            ),
            Command("version", "Prints the version of etcdutl", "do_misc:version"),
            help_command("etcdutl"),
            completion("etcdutl"),
            COMPLETE,
        ),
    ),
    version="3.5.0",
    api_version="3.5",
    flags=(
        Flag(
            "write-out",
            "string",
            "simple",
            "set the output format (fields, json, protobuf, simple, table)",
            "w",
        ),
    ),
    prefix="ETCDUTL",
)

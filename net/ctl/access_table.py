"""The commands of etcdctl about users, roles and authentication. See ``etcdctl_table``."""

from __future__ import annotations

from typing import Final

from .command import Command
from .flagset import bool_flag, text_flag

__all__ = ["AUTH", "ROLE", "USER"]

AUTH: Final = Command(
    "auth <enable or disable>",
    "Enable or disable authentication",
    children=(
        Command("enable", "Enables authentication", "do_auth:enable"),
        Command("disable", "Disables authentication", "do_auth:disable"),
        Command("status", "Returns authentication status", "do_auth:status", hidden=True),
    ),
)

USER: Final = Command(
    "user <subcommand>",
    "User related commands",
    children=(
        Command(
            "add <user name or user:password> [options]",
            "Adds a new user",
            "do_user:add",
            flags=(
                bool_flag("interactive", "Read password from stdin instead of interactive terminal", True),
                text_flag("new-user-password", "Supply password from the command line flag"),
                bool_flag("no-password", "Create a user without password (CN based auth only)"),
            ),
        ),
        Command("delete <user name>", "Deletes a user", "do_user:delete"),
        Command(
            "get <user name> [options]",
            "Gets detailed information of a user",
            "do_user:get",
            flags=(bool_flag("detail", "Show permissions of roles granted to the user"),),
        ),
        Command("list", "Lists all users", "do_user:list_all"),
        Command(
            "passwd <user name> [options]",
            "Changes password of user",
            "do_user:passwd",
            flags=(
                bool_flag(
                    "interactive", "If true, read password from stdin instead of interactive terminal", True
                ),
            ),
        ),
        Command("grant-role <user name> <role name>", "Grants a role to a user", "do_user:grant_role"),
        Command("revoke-role <user name> <role name>", "Revokes a role from a user", "do_user:revoke_role"),
    ),
)

ROLE: Final = Command(
    "role <subcommand>",
    "Role related commands",
    children=(
        Command("add <role name>", "Adds a new role", "do_role:add"),
        Command("delete <role name>", "Deletes a role", "do_role:delete"),
        Command("get <role name>", "Gets detailed information of a role", "do_role:get"),
        Command("list", "Lists all roles", "do_role:list_all"),
        Command(
            "grant-permission [options] <role name> <permission type> <key> [endkey]",
            "Grants a key to a role",
            "do_role:grant_permission",
            flags=(
                bool_flag(
                    "from-key",
                    "grant a permission of keys that are greater than or equal to the given key using byte"
                    " compare",
                ),
                bool_flag("prefix", "grant a prefix permission"),
            ),
        ),
        Command(
            "revoke-permission <role name> <key> [endkey]",
            "Revokes a key from a role",
            "do_role:revoke_permission",
            flags=(
                bool_flag(
                    "from-key",
                    "revoke a permission of keys that are greater than or equal to the given key using byte"
                    " compare",
                ),
                bool_flag("prefix", "revoke a prefix permission"),
            ),
        ),
    ),
)

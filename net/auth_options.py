"""The text of ``--auth-token``."""

from __future__ import annotations

__all__ = ["parse_options"]


def parse_options(text: str) -> tuple[str, dict[str, str]]:
    """Kind and options of an ``--auth-token``, e.g. ``jwt,ttl=5m``; raises ``ValueError``."""
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or "=" in value or name in options:
            raise ValueError("auth: invalid auth options")
        options[name] = value
    return kind, options

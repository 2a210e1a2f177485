"""The trace player: one self-contained HTML page that shows a trace step by step.

The page, its style and its script are files of this package; ``render_player`` puts them and the trace
together. Nothing is loaded from anywhere, so the page can be mailed, archived and opened offline.
"""

from __future__ import annotations

import html
from functools import cache
from importlib import resources

import msgspec

from tercet.core.trace import Trace

from .trace_view import view_of

__all__ = ["render_player"]


@cache
def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def render_player(trace: Trace, *, title: str = "") -> str:
    """Render ``trace`` as a page.

    Args:
        trace: what to show; tens of thousands of steps are fine.
        title: the page's heading; "" makes one of the trace's header.
    """
    view = view_of(trace, title=title)
    # "<" is escaped so that no text in the trace can end the script element.
    data = msgspec.json.encode(view).decode().replace("<", "\\u003c")
    page = _asset("trace_player.html")
    for name, text in (
        ("STYLE", _asset("trace_player.css").rstrip()),
        ("SCRIPT", _asset("trace_player.js").rstrip()),
        ("TITLE", html.escape(view.title)),
        ("DATA", data),
    ):
        page = page.replace(f"%%{name}%%", text)
    return page

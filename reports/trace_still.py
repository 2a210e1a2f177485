"""A still picture of a trace: one lane per member, time from left to right, messages as arrows.

The lane's colour and thickness are the member's role, a square is an entry written (coloured by its term,
named by its index), a tick an index that the member learns to be committed. Words above a lane tell when a
member's place in the configuration changes there. Columns are steps, not milliseconds: quiet time takes no
room. The SVG follows the reader's light or dark setting by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from html import escape

from tercet.core.raft import Role
from tercet.core.trace import Trace

from .trace_view import CHATTER, NEWS, Flight, StepView, View, view_of

__all__ = ["render_still"]

_COLUMNS = 42
_LEFT, _RIGHT, _TOP, _LANE, _STEP = 78, 30, 64, 104, 27
_HUES = (212, 28, 145, 282, 350, 182, 58, 320)
_ROLES = ("follower", "pre", "candidate", "leader")

_STYLE = """
.paper{fill:#faf8f4}.ink{fill:#1e2530}.soft{fill:#66707f}.grid{stroke:#e7e2d8}
.follower{fill:#9db8d6}.pre{fill:#c9b6e2}.candidate{fill:#f0a85c}.leader{fill:#e5b820}.down{fill:#d5d3ce}
.vote{stroke:#7a4fb5;fill:#7a4fb5}.append{stroke:#1f6fb2;fill:#1f6fb2}.beat{stroke:#a9b1bb;fill:#a9b1bb}
.snapshot{stroke:#0d7f83;fill:#0d7f83}.transfer{stroke:#9a7400;fill:#9a7400}.seat{fill:#9c4d06}
.read{stroke:#2b8a5a;fill:#2b8a5a}.propose{stroke:#b5562b;fill:#b5562b}.lost{stroke:#c22d3c;fill:#c22d3c}
.bad{fill:#c22d3c}.good{fill:#2b8a5a}.client{fill:#b5562b}
@media(prefers-color-scheme:dark){
.paper{fill:#14181f}.ink{fill:#e8e6e1}.soft{fill:#98a2b0}.grid{stroke:#2a313c}
.follower{fill:#3f6188}.pre{fill:#6d5296}.candidate{fill:#b36a22}.leader{fill:#c79c17}.down{fill:#3a414c}
.vote{stroke:#bb93ee;fill:#bb93ee}.append{stroke:#6db3ee;fill:#6db3ee}.beat{stroke:#5d6673;fill:#5d6673}
.snapshot{stroke:#5cc4c7;fill:#5cc4c7}.transfer{stroke:#f2cd5c;fill:#f2cd5c}.seat{fill:#f5a65b}
.read{stroke:#63c795;fill:#63c795}.propose{stroke:#ec9468;fill:#ec9468}.lost{stroke:#ff7380;fill:#ff7380}
.bad{fill:#ff7380}.good{fill:#63c795}.client{fill:#ec9468}}
text{font-family:"Source Sans 3","Segoe UI","Helvetica Neue","DejaVu Sans",sans-serif;font-size:13px}
.name{font-size:17px;font-weight:700}.title{font-size:18px;font-weight:650}.small{font-size:11.5px}
.role{font-weight:650}.middle{text-anchor:middle}.halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round;stroke:#faf8f4}
@media(prefers-color-scheme:dark){.halo{stroke:#14181f}}
.arrow{stroke-width:1.7;fill:none}.reply{stroke-dasharray:5 4}.tip{stroke:none}
""".strip()


def render_still(trace: Trace, at: int | None = None, *, title: str = "") -> str:
    """Draw the steps around one of them.

    Args:
        trace: what to draw.
        at: position of the record in the middle; None: where a leader is elected for the first time.
        title: the heading; "" makes one of the trace's header.

    Returns:
        A complete SVG document.
    """
    view = view_of(trace, title=title)
    return _Still(view, _middle(view) if at is None else at).draw()


def _middle(view: View) -> int:
    for index, step in enumerate(view.steps):
        if step.change.get("role") == Role.LEADER:
            return index
    return 0


class _Still:
    """One picture under construction."""

    def __init__(self, view: View, at: int) -> None:
        self.view = view
        self.columns = _columns(view, at)
        self.parts: list[str] = []
        self.labels: list[str] = []  # drawn over everything else
        self.width = _LEFT + _STEP * max(1, len(self.columns)) + _RIGHT
        self.height = _TOP + _LANE * len(view.nodes) + 26

    def draw(self) -> str:
        self._grid()
        self._lanes()
        first, last = (self.columns[0], self.columns[-1]) if self.columns else (0, -1)
        shown = frozenset(self.columns)
        for flight in self.view.flights:
            beat = flight.kind.startswith("beat")
            if first <= flight.left <= last and (not beat or flight.arrived in shown):
                self._flight(flight, last)
        for column, index in enumerate(self.columns):
            self._step(column, self.view.steps[index])
        title = escape(self.view.title)
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title>'
            f"<style>{_STYLE}</style>"
            f'<rect class="paper" width="{self.width}" height="{self.height}" rx="10"/>'
            f'<text class="title ink" x="20" y="30">{title}</text>'
            f"{self._legend()}{''.join(self.parts + self.labels)}</svg>\n"
        )

    def _legend(self) -> str:
        """Roles at the upper right, each with its colour and thickness."""
        parts = []
        x = self.width - _RIGHT
        for role in ("leader", "candidate", "pre", "follower"):
            word = _spoken(role)
            x -= 7 * len(word) + 34
            high = 12 if role == "leader" else 8
            parts.append(
                f'<rect class="{role}" x="{x}" y="{26 - high / 2}" width="20" height="{high}"/>'
                f'<text class="soft" x="{x + 25}" y="30">{word}</text>'
            )
        return "".join(parts)

    def _x(self, index: int) -> float:
        """Where a step is; steps without a column stand between their neighbours."""
        column = bisect_left(self.columns, index)
        exact = column < len(self.columns) and self.columns[column] == index
        return _LEFT + _STEP * (column + 0.5 if exact else column)

    def _y(self, node: int) -> float:
        return _TOP + _LANE * (node + 0.5)

    def _grid(self) -> None:
        start = self.view.steps[0].time_ns if self.view.steps else 0
        for column, index in enumerate(self.columns):
            if column % 6 == 0:
                x = _LEFT + _STEP * (column + 0.5)
                time = f"{(self.view.steps[index].time_ns - start) / 1e6:.0f} ms"
                self.parts.append(
                    f'<line class="grid" x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{self.height - 22}"/>'
                    f'<text class="soft small middle" x="{x}" y="{self.height - 8}">{time}</text>'
                )

    def _lanes(self) -> None:
        """Bands in the colour of the role; a new band where role or term changes."""
        for node, (name, _) in enumerate(self.view.nodes):
            y = self._y(node)
            self.parts.append(f'<text class="name ink" x="20" y="{y + 6}">{escape(name)}</text>')
            start, (role, term) = _LEFT, ("down", 0)
            named = ""
            rows = _history(self.view, node, self.columns)
            for column, fact in enumerate([*rows, ("", -1)]):
                x = _LEFT + _STEP * column
                if column == 0:
                    role, term = fact
                elif fact != (role, term):
                    label = _label(role, term)
                    self._band(start, x, y, role, label if label != named else "")
                    start, (role, term), named = x, fact, label

    def _band(self, start: float, end: float, y: float, role: str, label: str) -> None:
        half = 7 if role == "leader" else 4.5
        self.parts.append(
            f'<rect class="{role}" x="{start}" y="{y - half}" width="{end - start}" height="{2 * half}"/>'
        )
        if label and end - start > 7 * len(label):
            self.labels.append(
                f'<text class="soft role small halo" x="{start + 3}" y="{y + 34}">{escape(label)}</text>'
            )

    def _flight(self, flight: Flight, last: int) -> None:
        x1, y1, y2 = self._x(flight.left), self._y(flight.sender), self._y(flight.to)
        lost = flight.arrived < 0
        x2 = x1 + 1.6 * _STEP if lost else self._x(flight.arrived)
        if not lost and flight.arrived > last:
            return
        part = 0.5 if lost else 1.0
        x2, y2 = x1 + (x2 - x1) * part, y1 + (y2 - y1) * part
        down = 1 if y2 > y1 else -1
        y1, y2 = y1 + 8 * down, y2 if lost else y2 - 9 * down
        kind = "lost" if lost else flight.kind.rstrip("+")
        reply = " reply" if flight.kind.endswith("+") else ""
        self.parts.append(
            f'<g class="{kind}"><path class="arrow{reply}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
            f"{_cross(x2, y2) if lost else _tip(x1, y1, x2, y2)}"
            f"<title>{escape(flight.text)}</title></g>"
        )

    def _step(self, column: int, step: StepView) -> None:
        x = _LEFT + _STEP * (column + 0.5)
        if step.kind in ("fault", "crash", "heal", "client"):
            kind = "good" if step.kind == "heal" else "client" if step.kind == "client" else "bad"
            y = _TOP - 14 if step.node < 0 else self._y(step.node) - 30
            mark = "▾ " if step.kind == "client" else "⚡ " if kind == "bad" else "♡ "
            self.labels.append(
                f'<text class="{kind} small halo" x="{x - 4}" y="{y}">{mark}{escape(step.title[:34])}</text>'
            )
            return
        if step.node < 0:
            return
        y = self._y(step.node)
        title = f"<title>{escape(step.title)}</title>"
        self.parts.append(f'<circle class="ink" cx="{x}" cy="{y}" r="2.6">{title}</circle>')
        added, cut = step.change.get("add"), step.change.get("cut")
        if isinstance(added, list) and added and isinstance(cut, int) and step.kind != "start":
            self._entries(x, y, cut, added, told=step.kind in ("proposeconfchange", "applied"))
        elif step.change.get("base") and isinstance(cut, int) and step.kind != "start":
            self._box(x, y, f"snapshot to {cut}", "#0d7f83")
        place = "" if step.kind == "start" else _place(step)
        if place:
            words = f'<text class="seat small role halo middle" x="{x}" y="{y - 33}">{place}</text>'
            self.labels.append(words)
        commit = step.change.get("commit")
        if commit and step.kind != "start":
            self.labels.append(
                f'<text class="good small role halo middle" x="{x}" y="{y + 20}">✓{commit}</text>'
            )

    def _entries(self, x: float, y: float, cut: int, added: list[tuple[int, str]], *, told: bool) -> None:
        """A box with the indexes written, and with what they say where that is ``told`` first."""
        hue = _HUES[(added[-1][0] - 1) % len(_HUES)]
        first, last = cut + 1, cut + len(added)
        text = str(first) if first == last else f"{first}-{last}"
        text += f": {added[0][1]}" if told and first == last else ""
        self._box(x, y, text, f"hsl({hue} 60% 45%)")

    def _box(self, x: float, y: float, text: str, colour: str) -> None:
        wide = 12 + 7 * len(text)
        self.labels.append(
            f'<rect fill="{colour}" x="{x - wide / 2}" y="{y - 27}" width="{wide}" height="16" rx="3"/>'
            f'<text class="small middle" fill="#fff" x="{x}" y="{y - 15}">{escape(text)}</text>'
        )


def _columns(view: View, at: int) -> list[int]:
    """The steps drawn: what changes something or touches a message that is no heartbeat, around ``at``."""
    touched: dict[int, None] = {}
    for flight in view.flights:
        if not flight.kind.startswith("beat"):
            touched[flight.left] = None
            touched[flight.arrived] = None
    kept = [
        index
        for index, step in enumerate(view.steps)
        if step.weight >= NEWS or (step.weight >= CHATTER and index in touched)
    ]
    middle = bisect_left(kept, at)
    start = max(0, min(middle - _COLUMNS // 3, len(kept) - _COLUMNS))
    return kept[start : start + _COLUMNS]


def _history(view: View, node: int, columns: list[int]) -> list[tuple[str, int]]:
    """Role (or down) and term of a node at every column; the term is -1 before its first life."""
    up, role, term = False, 0, -1
    rows: list[tuple[str, int]] = []
    at = 0
    for index in columns:
        while at <= index:
            step = view.steps[at]
            at += 1
            up = up and node not in step.downs
            if step.node == node:
                up = bool(step.change.get("up", up))
                role = _int(step.change.get("role", role))
                term = _int(step.change.get("term", term))
        rows.append((_ROLES[role] if up else "down", term))
    return rows


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _label(role: str, term: int) -> str:
    if role == "down":
        return "down" if term >= 0 else "not started"
    return f"{_spoken(role)}, term {term}"


def _place(step: StepView) -> str:
    """What has become of a member's place in the configuration, in a word; "" when nothing has."""
    if "seat" in step.change:
        return ("voter", "learner", "no member")[_int(step.change["seat"])]
    if "joint" in step.change:
        return "joint" if step.change["joint"] else "joint no more"
    return ""


def _spoken(role: str) -> str:
    return "pre-candidate" if role == "pre" else role


def _tip(x1: float, y1: float, x2: float, y2: float) -> str:
    """An arrow's head at the second point."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1.0
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    back_x, back_y = x2 - 8 * dx, y2 - 8 * dy
    points = ((x2, y2), (back_x - 3.4 * dy, back_y + 3.4 * dx), (back_x + 3.4 * dy, back_y - 3.4 * dx))
    return f'<polygon class="tip" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _cross(x: float, y: float) -> str:
    return f'<path stroke-width="2" d="M{x - 4:.1f} {y - 4:.1f}l8 8M{x - 4:.1f} {y + 4:.1f}l8 -8"/>'

"""Protobuf without a schema: any message as one line of text."""

from __future__ import annotations

import json

__all__ = ["pb_text"]


def pb_tree(b):
    """Schema-less decode to [(field, value)], None if it is not a message."""
    i, out = 0, []
    def vi():
        nonlocal i
        s = n = 0
        while True:
            if i >= len(b) or s > 63:
                raise ValueError
            c = b[i]; i += 1
            n |= (c & 0x7F) << s
            s += 7
            if not c & 0x80:
                return n
    try:
        while i < len(b):
            t = vi(); f, w = t >> 3, t & 7
            if f == 0:
                return None
            if w == 0:
                out.append((f, vi()))
            elif w == 2:
                n = vi()
                if i + n > len(b):
                    return None
                out.append((f, b[i:i + n])); i += n
            elif w == 1:
                out.append((f, b[i:i + 8])); i += 8
            elif w == 5:
                out.append((f, b[i:i + 4])); i += 4
            else:
                return None
    except ValueError:
        return None
    return out

def pb_text(b, top=True):
    """Protobuf bytes -> one-line text; sub-messages are guessed (printable -> string)."""
    t = pb_tree(b)
    if t is None:
        return json.dumps(b.decode("latin-1"))
    parts = []
    for f, v in t:
        if isinstance(v, int):
            parts.append(f"{f}:{v}")
        else:
            printable = len(v) and all(32 <= c < 127 for c in v)
            sub = pb_tree(v) if not printable and len(v) else None
            if sub is not None:
                parts.append(f"{f}{{{pb_text(v, False)}}}")
            else:
                parts.append(f"{f}:{json.dumps(v.decode('latin-1'))}")
    return " ".join(parts)

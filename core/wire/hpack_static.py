"""HPACK's static table (RFC 7541, appendix A).

It is here because importing it from the ``hpack`` package brings that package's logging along, which takes a
command line longer than its call does. ``tests/core/test_wire_hpack.py`` compares the two.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STATIC", "STATIC_PLACES"]

_ROWS: Final = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""

#: Index 1 is the first.
STATIC: Final[tuple[tuple[bytes, bytes], ...]] = tuple(
    (name, value) for name, _, value in (row.partition(b" ") for row in _ROWS.encode().splitlines())
)
#: Name -> the first index that has it, and the index of each value that it has there.
STATIC_PLACES: Final[dict[bytes, tuple[int, dict[bytes, int]]]] = {}
for _index, (_name, _value) in enumerate(STATIC, 1):
    STATIC_PLACES.setdefault(_name, (_index, {}))[1][_value] = _index

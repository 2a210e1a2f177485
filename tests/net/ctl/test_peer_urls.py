"""What is and what is not the URL of a peer."""

from __future__ import annotations

import pytest

from tercet.net.ctl.failures import ERROR, Failure
from tercet.net.ctl.peer_urls import check_peer_urls


@pytest.mark.parametrize(
    "url",
    ["http://h:1", "HTTPS://h:1", " http://h:7 ", "unix://a:1", "http://[::1]:1", "http://:1", "http://h:",
     "http://h:99999", "http://user@h:1", "http://h:1?q", "http://h:1#f", "http://schlüssel:1"],
)  # fmt: skip
def test_what_etcdctl_sends_is_sent(url: str) -> None:
    check_peer_urls([url])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("h:1", "URL scheme must be http, https, unix, or unixs: h:1"),
        ("/a", "URL scheme must be http, https, unix, or unixs: /a"),
        ("", "URL scheme must be http, https, unix, or unixs: "),
        ("1http://h:1", 'parse "1http://h:1": first path segment in URL cannot contain colon'),
        ("://h:1", 'parse "://h:1": missing protocol scheme'),
        ("\x01", 'parse "\\x01": net/url: invalid control character in URL'),
        ("http://h:x", 'parse "http://h:x": invalid port ":x" after host'),
        ("http://%zz:1", 'parse "http://%zz:1": invalid URL escape "%zz"'),
        ("http://h h:1", 'parse "http://h h:1": invalid character " " in host name'),
        ("http://h", 'URL address does not have the form "host:port": http://h'),
        ("http:h:1", 'URL address does not have the form "host:port": http:h:1'),
        ("unix:///a", 'URL address does not have the form "host:port": unix:///a'),
        ("http://a:b:1", 'URL address does not have the form "host:port": http://a:b:1'),
        ("http://h:1/", "URL must not contain a path: http://h:1/"),
    ],
)
def test_what_is_no_url_of_a_peer_is_told_and_not_sent(url: str, problem: str) -> None:
    with pytest.raises(Failure) as caught:
        check_peer_urls(["http://fine:1", url])
    assert (caught.value.status, caught.value.text) == (ERROR, problem)

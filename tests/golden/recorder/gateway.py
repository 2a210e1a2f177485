"""Cases that are HTTP requests: status, the headers that count, body."""

from __future__ import annotations

import http.client
import json
import socket
import threading

from commands import brief, names
from quiet import until

__all__ = ["Gateway"]

KEEP = {"content-type", "x-etcd-index", "x-etcd-cluster-id", "x-raft-index", "x-raft-term", "allow", "location",
        "www-authenticate", "grpc-metadata-content-type", "transfer-encoding", "trailer", "x-content-type-options",
        "x-server-version", "access-control-allow-origin", "access-control-allow-methods",
        "access-control-allow-headers", "retry-after"}


class Gateway:
    """The part of a runner that asks by HTTP."""

    def http(self, id, method, path, body=None, headers=None, norm=(), lines=None, pokes=None, timeout=30, warm=0.7,
             settle=0.8, record=True, ep=None, note=None, volatile=(), cap=0):
        """Make a request and record it; with ``lines``, read that many of a body that goes on."""
        is_json = not isinstance(body, str) and body is not None
        text = json.dumps(self.sub(body)) if is_json else self.sub(body)
        sent = self._headers(headers, path, body, is_json)
        res = self._answer(ep, method, path, text, sent, lines, pokes, timeout, warm, settle)
        rec = {"id": id, "request": described(method, path, sent, body, text, is_json)}
        if lines is not None:
            rec["request"]["read_lines"] = lines
        if pokes is not None:
            rec["meanwhile"] = names(pokes)
        rec["status"] = res.get("status")
        rec["headers"] = self._kept(res)
        rec["all_header_names"] = sorted(k for k, _ in res.get("headers", []))
        rec.update({k: res[k] for k in ("timeout", "error", "eof") if k in res})
        found = res.get("body", b"")
        self.norm(rec, "body", found.decode("utf-8", "backslashreplace"), norm)
        if cap and len(rec["body"]) > cap:
            rec["body"] = rec["body"][:cap] + "<CUT>"
        if volatile:
            rec["ignore"] = list(volatile)
        if note:
            rec["note"] = note
        if record:
            self.emit(rec, "http")
        else:
            self.setup.append(["http", method, path, text])
        rec["bytes"] = found
        return rec

    def v3(self, id, path, body, **kw):
        return self.http(id, "POST", "/v3/" + path, body, **kw)

    def v2(self, id, method, path, body=None, **kw):
        return self.http(id, method, path, body, **kw)

    def _headers(self, headers, path, body, is_json):
        h = dict(headers or {})
        if body is not None and not any(k.lower() == "content-type" for k in h):
            form = "application/x-www-form-urlencoded"
            h["Content-Type"] = "application/json" if is_json or path.startswith("/v3") else form
        return {k: self.sub(v) for k, v in h.items()}

    def _answer(self, ep, method, path, text, headers, lines, pokes, timeout, warm, settle):
        connection = http.client.HTTPConnection(*(self.sub(ep) if ep else self.eps[0]).split(":"), timeout=timeout)
        where, res = self.sub(path), {}

        def go():
            try:
                connection.request(method, where, text.encode() if text is not None else None, headers)
                r = connection.getresponse()
                res.update(status=r.status, headers=r.getheaders())
                res["body"] = r.read() if lines is None else read_lines(r, lines, res)
            except (socket.timeout, TimeoutError):
                res["timeout"] = True
            except (OSError, http.client.HTTPException) as ex:
                res["error"] = type(ex).__name__ + ": " + str(ex)

        if pokes is not None:
            thread = threading.Thread(target=go, daemon=True)
            thread.start()
            if lines is not None:   # the first tells that the stream is there
                until(lambda: "body" in res or not thread.is_alive())
            self.settled(None, warm)
            for k in pokes:
                self.poke(k)
                self.settled(None, 0.15)
            thread.join(timeout + settle)
        else:
            go()
        connection.close()
        return res

    def _kept(self, res):
        """The headers that are compared, with placeholders."""
        found = {}
        for k, v in res.get("headers", []):
            name = k.lower()
            if name not in KEEP:
                continue
            if name in ("x-raft-index", "x-raft-term"):
                v = "<RAFT>"
            elif name == "x-server-version":
                v = "<VERSION>"
            else:
                v = self.n.literal(v, set())
            found[k] = v
        return found


def read_lines(response, lines, res):
    buf = b""
    while buf.count(b"\n") < lines:
        piece = response.read1(65536)
        if not piece:
            res["eof"] = True
            break
        buf += piece
        res["body"] = buf
    return buf


def described(method, path, headers, body, text, is_json):
    """The request, and how curl would make it."""
    shown = json.dumps(body) if is_json else body
    kept = None
    if body is not None:
        kept = json.loads(brief(shown)) if is_json and len(text) <= 20000 else brief(text)
    curl = f"curl -X {method} 'http://<EP1>{path}'" + "".join(f" -H '{k}: {v}'" for k, v in headers.items())
    if body is not None:
        curl += f" -d '{brief(shown)}'"
    return {"method": method, "path": path, "headers": headers, "body": kept, "curl": curl}

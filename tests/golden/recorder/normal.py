"""Placeholders for what differs from run to run: ids, ports, times, sizes; and orders that nobody promises."""

from __future__ import annotations

import base64
import json
import re

__all__ = ["Norm"]


class Norm:
    def __init__(self):
        self.tok = {}          # literal -> placeholder
        self.nlease = 0

    def add(self, lit, ph):
        if lit and lit not in self.tok:
            self.tok[lit] = ph

    def add_id(self, n, ph):
        n = int(n)
        if n:
            self.add("%016x" % n, ph)
            self.add("%x" % n, ph)
            self.add("%16x" % n, ph)  # as etcdctl prints it: a short one is padded with spaces
            self.add("%d" % n, ph)

    def lease(self, n):
        n = int(n)
        if n < 1 << 40 or "%x" % n in self.tok:
            return
        self.nlease += 1
        self.add_id(n, f"<LEASE_ID_{self.nlease}>")
        return self.nlease

    #: Sixteen random bits, the first cleared, before forty-eight of time and count: one cluster in 128 has leases of
    #: fourteen digits or fewer.
    LEASE = "([0-9a-f]{12,16})"

    def scan(self, text):
        """Register lease ids seen in any known spelling."""
        got = []
        for pat, base in ((rf"lease {self.LEASE}\b", 16), (r'"(?:ID|lease_id|id)"\s?:\s?"?(\d{15,20})"?', 10),
                          (r'"(?:lease|Lease)"\s?:\s?"?(\d{15,20})"?', 10), (rf"/{self.LEASE}\b", 16),
                          (rf"^{self.LEASE}$", 16)):
            for m in re.finditer(pat, text, re.M):
                s = m.group(1)
                if s not in self.tok:
                    k = self.lease(int(s, base))
                    if k:
                        got.append((k, int(s, base)))
        for m in re.finditer(r'"([A-Za-z0-9+/]{12,}={0,2})"', text):
            try:
                d = base64.b64decode(m.group(1), validate=True).decode("ascii")
            except Exception:
                continue
            for m2 in re.finditer(rf"/{self.LEASE}\b", d):
                if m2.group(1) not in self.tok:
                    k = self.lease(int(m2.group(1), 16))
                    if k:
                        got.append((k, int(m2.group(1), 16)))
        return got

    @staticmethod
    def pattern(token):
        """What finds a token: an id not inside another word, a padded one behind the space that parts words."""
        before = r"(?<= )" if token[0] == " " else r"(?<![0-9a-zA-Z])"
        return before + re.escape(token) + r"(?![0-9a-zA-Z])" if re.fullmatch(r" *[0-9a-f]+", token) else re.escape(token)

    def literal(self, s, used):
        if not self.tok:
            return s
        keys = sorted(self.tok, key=len, reverse=True)
        rx = re.compile("|".join(map(self.pattern, keys)))
        def sub(m):
            used.add(self.tok[m.group(0)])
            return self.tok[m.group(0)]
        return rx.sub(sub, s)

    RX = [  # always applied
        (r'("(?:raft_term|raftTerm|RaftTerm)" ?: ?"?)\d+', r"\1<RAFT_TERM>"),
        (r'("(?:raftIndex|RaftIndex|raftAppliedIndex|RaftAppliedIndex)" ?: ?"?)\d+', r"\1<RAFT_INDEX>"),
        (r'("(?:dbSize|DBSize|dbSizeInUse|DBSizeInUse)" ?: ?"?)\d+', r"\1<DB_SIZE>"),
        (r'("(?:version|Version|etcdserver)" ?: ?")3\.\d+\.\d+[^"]*', r"\1<VERSION>"),
        (r'("(?:expiration)" ?: ?")[^"]+', r"\1<TIME>"),
        (r'("took" ?: ?")[^"]+', r"\1<DUR>"),
        (r"took = [0-9.]+(?:ms|µs|s|ns)", "took = <DUR>"),
        (r"(\bafter |in )\d+(\.\d+)?(ms|µs)", r"\1<DUR>"),
        (r"^\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d:\d\d\.\d+ (?=[A-Z] \| )", "<TIME> "),
        (r"(expected sha256 |got )\[\d+(?: \d+){31}\]", r"\1[<SHA>]"),
    ]
    OPT = {
        "dur": [(r"\b\d+(?:\.\d+)?(?:ms|µs|ns|s)\b", "<DUR>")],
        "size": [(r"\b\d+(?:\.\d+)? [kMG]?B\b", "<SIZE>")],
        "status": [(r"(127\.0\.0\.1:\d+, [0-9a-f]+, )[^,]+, [^,]+, (true|false), (true|false), \d+, \d+, \d+,",
                    r"\1<VERSION>, <SIZE>, \2, \3, <RAFT_TERM>, <RAFT_INDEX>, <RAFT_INDEX>,"),
                   (r"(\| 127\.0\.0\.1:\d+ \| [0-9a-f]+ \|) [^|]+\| [^|]+\| (true|false) \| (true|false) \| \d+ \| \d+ \| \d+ \|",
                    r"\1 <VERSION> | <SIZE> | \2 | \3 | <RAFT_TERM> | <RAFT_INDEX> | <RAFT_INDEX> |")],
        "ttl": [(r'("(?:ttl|TTL)" ?: ?"?)-?\d+', r"\1<TTL>"), (r"remaining\(\d+s\)", "remaining(<TTL>s)"),
                (r"TTL\(\d+\)", "TTL(<TTL>)"), (r"TTL: \d+", "TTL: <TTL>")],
        "hash": [(r'("(?:hash|Hash)" ?: ?"?)\d+', r"\1<HASH>"), (r"^[0-9a-f]{1,8}, ", "<HASH>, "), (r"^\| [0-9a-f]{1,8} \|", "| <HASH> |")],
        "ver": [(r"\b3\.\d+\.\d+\b", "<VERSION>"), (r"(etcdcluster\"?:\s?\"?)3\.\d+\.\d+", r"\1<CVERSION>"),
                (r"Git SHA: .*", "Git SHA: <SHA>"), (r"Go Version: .*", "Go Version: <GO>")],
        "port": [(r"127\.0\.0\.1:\d{4,5}->", "127.0.0.1:<PORT>->")],
        "time": [(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "<TIME>")],
        # who gives up first, the client after 5 s or the server after its own time, is a race
        "deadline": [(r"rpc error: code = (?:Unknown|DeadlineExceeded) desc = context deadline exceeded", "<TIMED_OUT>"),
                     (r"etcdserver: request timed out(?:, possibly due to (?:previous leader failure|connection lost))?", "<TIMED_OUT>"),
                     (r"context deadline exceeded", "<TIMED_OUT>")],
        "revs": [(r'("(?:revision|Revision)" ?: ?"?)\d+', r"\1<REV>")],
        # what a Go program says that dies in two goroutines at once
        "panic": [(r"^panic: [\s\S]*", "<PANIC>\n")],
        "num": [(r"\b\d+(?:\.\d+)?\b", "<N>")],
    }

    def text(self, s, opts=()):
        used = set()
        if not s:
            return s, used
        if re.search(r"^\+-", s, re.M):                     # tables: squeeze column padding
            s = re.sub(r"-{2,}", "--", re.sub(r" {2,}", " ", s))
        for o in opts:
            if o == "status":
                for p, r in self.OPT[o]:
                    s, n = re.subn(p, r, s)
                    if n:
                        used.add(o)
        def b64(m):
            try:
                d = base64.b64decode(m.group(1), validate=True).decode("ascii")
            except Exception:
                return m.group(0)
            u = set()
            t = self.literal(d, u)
            if u:
                used.update(u)
                return '"b64(' + t + ')"'
            return m.group(0)
        s = re.sub(r'"([A-Za-z0-9+/]{12,}={0,2})"', b64, s)
        s = self.literal(s, used)
        for p, r in self.RX:
            s, n = re.subn(p, r, s, flags=re.M)
            if n:
                used.update(re.findall(r"<[A-Z_]+>", r))
        for o in opts:
            for p, r in self.OPT.get(o, []) if o != "status" else []:
                s, n = re.subn(p, r, s, flags=re.M)
                if n:
                    used.update(re.findall(r"<[A-Z_]+>", r))
        if "uniq" in opts:         # a client that asks again after 500 ms is told twice
            used.add("uniq")
            s = re.sub(r"^(.+\n)\1+", r"\1", s, flags=re.M)
        if "sortlines" in opts:
            used.add("sortlines")
            s = "".join(l + "\n" for l in sorted(s.splitlines()))
        if "sortcsv" in opts:
            used.add("sortcsv")
            s = re.sub(r'(ETCD_INITIAL_CLUSTER=")([^"]*)"', lambda m: m.group(1) + ",".join(sorted(m.group(2).split(","))) + '"', s)
        if "sortmembers" in opts:
            used.add("sortmembers")
            try:
                j = json.loads(quote_ph(s))
                key = lambda m: (m.get("name", ""), json.dumps(m.get("peerURLs")))
                j["members"].sort(key=key)
                s = json.dumps(j, separators=(",", ":"))
            except Exception:
                pass
        if "metrics" in opts:
            used.add("metrics")
            s = "".join(sorted(l + "\n" for l in s.splitlines() if l.startswith("# TYPE ")))
        if "shape" in opts:
            used.add("shape")
            s = "".join(json.dumps(shape(json.loads(l)), sort_keys=True) + "\n" for l in s.splitlines() if l.strip())
        if "jsonsort" in opts:     # one JSON document: order of arrays of objects is not defined
            used.add("jsonsort")
            try:
                s = json.dumps(jsort(json.loads(quote_ph(s))), sort_keys=True)
            except Exception:
                pass
        return s, used

def quote_ph(s):
    """Placeholders that stand for numbers are not JSON: quote them."""
    return re.sub(r'(?<=[:\[,])(<[A-Za-z_0-9]+>)(?=[,}\]])', r'"\1"', s)

def shape(x):
    if isinstance(x, dict):
        return {k: shape(v) for k, v in x.items()}
    if isinstance(x, list):
        return [shape(x[0])] if x else []
    return type(x).__name__

def jsort(x):
    if isinstance(x, dict):
        return {k: jsort(v) for k, v in x.items()}
    if isinstance(x, list):
        return sorted((jsort(v) for v in x), key=lambda v: json.dumps(v, sort_keys=True))
    return x

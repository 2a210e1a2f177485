"""One group being played: its servers, its variables, and the records it makes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile

from commands import Commands
from gateway import Gateway
from normal import Norm
from servers import Cluster, simple_http

__all__ = ["Runner"]


class Runner(Commands, Gateway):
    """What a group's function gets: ``ctl`` and ``http`` make cases, ``do`` prepares them."""

    def __init__(self, cfg, group, out):
        self.cfg, self.g, self.out = cfg, group, out
        self.tmp = tempfile.mkdtemp(prefix="golden.")
        self.n = Norm()
        self.seq = 0
        self.vars = {"TMP": self.tmp}
        self.setup = []
        self.clusters = []
        self.programs = []     # command lines that were started

    def begin(self):
        g = self.g
        if g.nodes:
            self.c = self.new_cluster(g.nodes, g.flags, self.cfg.port_base)
            self.c.start()
            self.eps = self.c.eps
        else:
            self.c, self.eps = None, [f"127.0.0.1:{self.cfg.port_base}"]
        for i, e in enumerate(self.eps):
            self.vars[f"EP{i + 1}"] = e
            self.n.add(e, f"<EP{i + 1}>")
            h, p = e.split(":")
            self.vars[f"PEER{i + 1}"] = f"http://{h}:{int(p) + 1}"
            self.vars[f"PEER{i + 1}H"] = f"{h}:{int(p) + 1}"
            self.n.add(f"http://{h}:{int(p) + 1}", f"<PEER{i + 1}>")
            self.n.add(f"{h}:{int(p) + 1}", f"<PEER{i + 1}H>")
        self.vars["EPS"] = ",".join(self.eps)
        self.n.add(self.tmp, "<TMP>")
        if g.nodes and g.ids:
            self.learn()

    def new_cluster(self, nodes, flags, base, prefix="n"):
        c = Cluster(self.cfg, self.tmp, nodes, flags, base, prefix)
        self.clusters.append(c)
        return c

    def server_pids(self):
        return [process.pid for cluster in self.clusters for process in cluster.procs.values()]

    def caught_up(self):
        """Every member has applied what was acknowledged: each reads through the leader once."""
        for ep in self.eps:
            simple_http(ep, "POST", "/v3/kv/range", '{"key":"AA=="}', timeout=30)

    def learn(self, ep=None, tag=""):
        """Register cluster and member ids."""
        _, _, b = simple_http(ep or self.eps[0], "POST", "/v3/cluster/member/list", "{}", timeout=30)
        j = json.loads(b)
        self.n.add_id(j["header"]["cluster_id"], f"<CLUSTER_ID{tag}>")
        self.members = {m.get("name", ""): int(m["ID"]) for m in j["members"]}
        for m in j["members"]:
            name = m.get("name") or "unstarted_" + m["peerURLs"][0].rsplit(":", 1)[1]
            ph = f"<MEMBER_ID_{name}{tag}>"
            self.n.add_id(m["ID"], ph)
            self.vars[f"MID_{name}"] = "%x" % int(m["ID"])
            self.vars[f"MIDD_{name}"] = m["ID"]

    def end(self):
        for program in self.programs:
            if program.poll() is None:
                program.kill()
                program.wait()
        for c in self.clusters:
            c.stop()
        if self.cfg.keep:
            print("   kept", self.tmp)
        else:
            shutil.rmtree(self.tmp, ignore_errors=True)

    def sub(self, x):
        if isinstance(x, str):
            return re.sub(r"@([A-Za-z0-9_]+)@", lambda m: str(self.vars.get(m.group(1), m.group(0))), x)
        if isinstance(x, list):
            return [self.sub(v) for v in x]
        if isinstance(x, dict):
            return {k: self.sub(v) for k, v in x.items()}
        return x

    def saw(self, text):
        for k, v in self.n.scan(text):
            self.vars[f"L{k}"] = "%x" % v
            self.vars[f"L{k}D"] = str(v)

    def emit(self, rec, kind):
        self.seq += 1
        full = {"id": f"{self.g.name}/{rec.pop('id')}", "group": self.g.name, "seq": self.seq, "kind": kind,
                "setup": {"nodes": self.g.nodes, "flags": self.g.flags, "steps_since_last_case": self.setup}}
        full.update(rec)
        self.setup = []
        for c in self.clusters:
            for i, p in list(c.procs.items()):
                if p.poll() is not None:
                    full["server_died"] = p.returncode
                    print(f"   !! {full['id']}: server {i + 1} exited by itself with {p.returncode}", flush=True)
                    c.procs.pop(i)
        self.out(kind, full)

    def norm(self, rec, field, s, opts, scan=True):
        if scan:
            self.saw(s)
        t, used = self.n.text(s, opts)
        rec[field] = t
        if t != s:
            rec.setdefault("raw", {})[field] = s
        vol = set(rec.get("volatile", [])) | used
        rec["volatile"] = sorted(vol)

"""A fresh server, or three: any program that takes etcd's flags."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import ssl
import subprocess
import time

__all__ = ["Cluster", "simple_http"]


class Cluster:
    def __init__(self, cfg, tmp, nodes, flags, base, prefix="n"):
        self.cfg, self.tmp, self.nodes, self.base = cfg, tmp, nodes, base
        self.flags, self.prefix = list(flags), prefix
        self.procs = {}
        self.cports = [base + 10 * i for i in range(nodes)]
        self.pports = [base + 10 * i + 1 for i in range(nodes)]
        self.eps = [f"127.0.0.1:{p}" for p in self.cports]

    def argv(self, i, state="new", extra_cluster=None, name=None, data=None):
        name = name or f"{self.prefix}{i + 1}"
        peers = extra_cluster or ",".join(f"{self.prefix}{k + 1}=http://127.0.0.1:{p}" for k, p in enumerate(self.pports))
        sch = "https" if any("--auto-tls" in f or "--cert-file" in f for f in self.flags) else "http"
        c = f"{sch}://127.0.0.1:{self.base + 10 * i}"
        p = f"http://127.0.0.1:{self.base + 10 * i + 1}"
        a = shlex.split(self.cfg.etcd) + [
            "--name", name, "--data-dir", data or f"{self.tmp}/{name}",
            "--listen-client-urls", c, "--advertise-client-urls", c,
            "--listen-peer-urls", p, "--initial-advertise-peer-urls", p,
            "--initial-cluster", peers, "--initial-cluster-token", "golden",
            "--initial-cluster-state", state]
        if not self.cfg.no_v2:
            a.append("--enable-v2=true")
        return a + self.flags

    def spawn(self, i, **kw):
        log = open(f"{self.tmp}/{self.prefix}{i + 1}.log", "ab")
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        self.procs[i] = subprocess.Popen(self.argv(i, **kw), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)

    def start(self):
        for i in range(self.nodes):
            self.spawn(i)
        self.wait_ready()

    def wait_ready(self, idx=None):
        end = time.time() + self.cfg.start_timeout
        for i in (range(self.nodes) if idx is None else idx):
            while True:
                if time.time() > end:
                    raise RuntimeError(f"server {i} not ready; see {self.tmp}")
                if i in self.procs and self.procs[i].poll() is not None:
                    raise RuntimeError(f"server {i} exited {self.procs[i].returncode}; see {self.tmp}")
                try:
                    ep, context = f"127.0.0.1:{self.base + 10 * i}", self.tls()
                    _, _, health = simple_http(ep, "GET", "/health", context=context)
                    _, _, version = simple_http(ep, "GET", "/version", context=context)
                    if b'"true"' in health and b"not_decided" not in version:
                        break
                except OSError:
                    pass
                except http.client.HTTPException:
                    pass
                time.sleep(0.1)

    def tls(self):
        """What to ask this server with; None: it speaks without TLS."""
        if not any("--auto-tls" in f or "--cert-file" in f for f in self.flags):
            return None
        context = ssl._create_unverified_context()
        if os.path.exists(f"{self.tmp}/root.pem"):
            context.load_cert_chain(f"{self.tmp}/root.pem", f"{self.tmp}/root.key")
        return context

    def stop(self, i=None, sig=signal.SIGTERM):
        for k in [i] if i is not None else list(self.procs):
            p = self.procs.pop(k, None)
            if p and p.poll() is None:
                p.send_signal(sig)
                try:
                    p.wait(60)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()

def simple_http(ep, method, path, body=None, headers=None, timeout=5, context=None):
    c = (http.client.HTTPSConnection(*ep.split(":"), timeout=timeout, context=context) if context
         else http.client.HTTPConnection(*ep.split(":"), timeout=timeout))
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return r.status, r.getheaders(), r.read()
    finally:
        c.close()

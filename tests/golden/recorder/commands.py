"""Cases that are command lines: what was asked, what was printed, how it ended."""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import subprocess
import threading
import time

from quiet import wait_until_quiet
from servers import simple_http
from wire import pb_text

__all__ = ["Commands", "brief"]


def brief(s):
    """Long texts (limit tests) are described, not kept; the cases have them."""
    return s if len(s) <= 20000 else f"<{len(s)} characters: {s[:20]!r}...{s[-20:]!r}>"


def names(pokes):
    """What was done meanwhile, as it is recorded."""
    return [k if isinstance(k, (str, list, tuple)) else "call" for k in pokes]


class Commands:
    """The part of a runner that runs etcdctl."""

    def base_env(self, api, env, eps):
        e = {"PATH": os.environ.get("PATH", ""), "HOME": self.tmp, "ETCDCTL_API": str(api), **self.g.env}
        if eps is not False:
            given = self.sub(eps or self.eps[0])
            if api != 3:
                given = ",".join("http://" + x.replace("http://", "") for x in given.split(","))
            e["ETCDCTL_ENDPOINTS"] = given
        e.update({k: self.sub(v) for k, v in (env or {}).items()})
        return e

    def ctl(self, id, args, stdin=None, env=None, timeout=60, norm=(), api=3, eps=None, record=True,
            pokes=None, warm=1.0, settle=0.8, sig=signal.SIGINT, note=None, volatile=(), chunks=None, cap=0):
        """Run a command, in the end interrupted when ``pokes`` or ``chunks`` are given, and record it."""
        args = shlex.split(args) if isinstance(args, str) else args
        process = subprocess.Popen(
            shlex.split(self.cfg.etcdctl if api == 3 else self.cfg.etcdctl2) + self.sub(args),
            stdin=subprocess.PIPE if stdin is not None or chunks else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.base_env(api, env, eps), cwd=self.tmp,
            start_new_session=True)
        self.programs = [one for one in self.programs if one.poll() is None] + [process]
        text = self.sub(stdin) if stdin is not None else None
        if pokes is not None or chunks is not None:
            out, err, killed = self._watched(process, text, chunks, pokes, warm, settle, sig, timeout)
        else:
            out, err, killed = waited_for(process, text, timeout)
        rec = {"id": id, "cmd": ["etcdctl"] + [self.n.literal(a, set()) for a in args]}
        if stdin is not None:
            rec["stdin"] = brief(stdin)
        if chunks:
            rec["stdin"] = "".join(([stdin] if stdin else []) + chunks)
        if env:
            rec["env"] = env
        if eps is not None:
            rec["endpoints"] = eps
        if pokes is not None:
            rec["meanwhile"] = names(pokes)
        if killed:
            rec["ended_by"] = killed
        rec["exit"] = process.returncode
        errors = self._outputs(rec, args, out, err, norm)
        for f in ("stdout", "stderr"):
            if cap and len(rec[f]) > cap:
                rec[f] = rec[f][:cap] + "<CUT>"
        if volatile:
            rec["ignore"] = list(volatile)
        if note:
            rec["note"] = note
        if record:
            self.emit(rec, f"etcdctl{api}")
        else:
            self.setup.append(["etcdctl%d" % api] + args)
        rec["so"], rec["se"] = out.decode("utf-8", "replace"), errors
        return rec

    def do(self, args, **kw):
        """Run a command that is no case."""
        return self.ctl("-", args, record=False, **kw)

    def do2(self, args, **kw):
        return self.do(args, api=2, **kw)

    def poke(self, k):
        """One of the things that are done while a command runs: a call, a pause, or another command."""
        if callable(k):
            return k()
        if isinstance(k, (int, float)):
            return time.sleep(k)
        if isinstance(k, tuple) and k[0] == "http":
            return simple_http(self.eps[0], k[1], self.sub(k[2]), self.sub(k[3]) if len(k) > 3 else None)
        k = shlex.split(k) if isinstance(k, str) else k
        subprocess.run(shlex.split(self.cfg.etcdctl) + self.sub(k), env=self.base_env(3, None, None),
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def settled(self, process, seconds):
        """Wait so long, and until a program (None: a request of our own) and all servers have come to rest."""
        wait_until_quiet(process.pid if process else None, self.server_pids(), seconds)

    def aside(self, args):
        """Start a command that goes on while others run; it has come as far as it can."""
        process = subprocess.Popen(
            [*shlex.split(self.cfg.etcdctl), *shlex.split(args)], env=self.base_env(3, None, None), cwd=self.tmp,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.programs.append(process)
        self.settled(process, 1.0)
        return process

    def _watched(self, process, text, chunks, pokes, warm, settle, sig, timeout):
        """Feed a program that goes on for ever, do the other things, and end it."""
        out, err, killed = bytearray(), bytearray(), None

        def read(file, into):
            for piece in iter(lambda: os.read(file.fileno(), 65536), b""):
                into.extend(piece)

        readers = [threading.Thread(target=read, args=a, daemon=True)
                   for a in ((process.stdout, out), (process.stderr, err))]
        [t.start() for t in readers]
        if text is not None:
            write(process, text)
        self.settled(process, warm)
        for c in chunks or []:
            write(process, self.sub(c))
            self.settled(process, 0.5)
        for k in pokes or []:
            self.poke(k)
            self.settled(process, 0.15)
        self.settled(process, settle)
        if process.poll() is None:
            killed = signal.Signals(sig).name
            process.send_signal(sig)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            killed = "SIGKILL"
            process.kill()
            process.wait()
        [t.join(30) for t in readers]
        return bytes(out), bytes(err), killed

    def _outputs(self, rec, args, out, err, norm):
        """Put both outputs into the record; returns the errors as they were."""
        if out and any(a in ("protobuf", "--write-out=protobuf") for a in args):
            rec["stdout_b64"] = base64.b64encode(out).decode()
            self.norm(rec, "stdout", pb_text(out), tuple(norm) + ("pb",))
            rec["stdout"] = re.sub(r"(<MEMBER_ID[^>]*>(?: 3:\d+)? 4:)\d+", r"\1<RAFT_TERM>", rec["stdout"])
            rec["decoded"] = "protobuf wire, field:value"
        else:
            self.norm(rec, "stdout", out.decode("utf-8", "backslashreplace"), norm)
        errors = err.decode("utf-8", "backslashreplace")
        logs = [l for l in errors.splitlines() if l.startswith('{"level"')]
        rest = "".join(l + "\n" for l in errors.splitlines() if not l.startswith('{"level"'))
        if "\ngoroutine " in rest:                        # a Go panic: keep its message, drop the stack
            rest = rest[:rest.index("\ngoroutine ")] + "<STACK>\n"
        self.norm(rec, "stderr", rest, norm)
        if logs:
            rec["stderr_client_log"] = logs
        return errors


def write(process, text):
    process.stdin.write(text.encode())
    process.stdin.flush()


def waited_for(process, text, timeout):
    """Both outputs of a program that ends by itself; of one that does not, until it was interrupted."""
    try:
        return (*process.communicate(text.encode() if text is not None else None, timeout), None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return (*process.communicate(timeout=30), "SIGINT")
    except subprocess.TimeoutExpired:
        process.kill()
        return (*process.communicate(), "SIGKILL")

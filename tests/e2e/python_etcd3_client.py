"""Uses a cluster through PyPI's etcd3; run by the tests with that package's own Python.

Arguments: HOST PORT [USER PASSWORD AUTHORITY CERTIFICATE KEY].
"""

import sys
import threading

import etcd3


def check(what, condition):
    if not condition:
        raise SystemExit(f"python etcd3: {what}")
    print("ok", what)


def key_values(client):
    client.put("py/a", "1")
    value, metadata = client.get("py/a")
    check("get", value == b"1" and metadata.key == b"py/a" and metadata.version == 1)
    client.put("py/b", "2")
    check("prefix", [v for v, _ in client.get_prefix("py/")] == [b"1", b"2"])
    check("replace", client.replace("py/a", "1", "3") and not client.replace("py/a", "1", "4"))
    check("put_if_not_exists", client.put_if_not_exists("py/c", "5"))
    check("put_if_not_exists of a key", not client.put_if_not_exists("py/c", "6"))
    succeeded, _ = client.transaction(
        compare=[client.transactions.value("py/a") == "3", client.transactions.version("py/b") > 0],
        success=[client.transactions.put("py/a", "4"), client.transactions.delete("py/b")],
        failure=[],
    )
    check("transaction", succeeded and client.get("py/a")[0] == b"4" and client.get("py/b")[0] is None)
    check("delete", client.delete("py/a") and not client.delete("py/a"))
    check("delete_prefix", client.delete_prefix("py/").deleted == 1)


def watches(client):
    seen = []
    done = threading.Event()

    def note(response):
        for event in response.events:
            seen.append((type(event).__name__, event.key, event.value))
            if len(seen) == 3:
                done.set()

    watch = client.add_watch_prefix_callback("pw/", note)
    client.put("pw/a", "1")
    client.put("pw/b", "2")
    client.delete("pw/a")
    check("watch arrives", done.wait(90))
    puts = [("PutEvent", b"pw/a", b"1"), ("PutEvent", b"pw/b", b"2")]
    check("watch", seen == [*puts, ("DeleteEvent", b"pw/a", b"")])
    client.cancel_watch(watch)
    events, cancel = client.watch("pw/iterated")
    client.put("pw/iterated", "x")
    check("watch as an iterator", next(events).value == b"x")
    cancel()


def leases(client):
    lease = client.lease(600)
    client.put("pl/a", "1", lease=lease)
    check("lease keys", list(lease.keys) == [b"pl/a"] and 0 < lease.remaining_ttl <= 600)
    check("refresh", lease.refresh()[0].TTL == 600)
    lease.revoke()
    check("revoke", client.get("pl/a")[0] is None)


def locks(client, connect):
    held = client.lock("pk", ttl=60)
    check("lock", held.acquire(timeout=60) and held.is_acquired())
    other = connect()
    rival = other.lock("pk", ttl=60)
    check("a held lock is refused", not rival.acquire(timeout=1))
    check("release", held.release())
    check("a released lock is free", rival.acquire(timeout=60) and rival.release())
    other.close()


def denials(client, connect):
    for key in ("other", "/other"):
        try:
            client.get(key)
        except Exception as problem:
            check("permission denied", "permission denied" in str(problem))
        else:
            check("a key of others is refused", False)
    try:
        connect(password="wrong")
    except Exception as problem:
        check("wrong password", "invalid user ID or password" in str(problem))
    else:
        check("a wrong password is refused", False)


def main():
    host, port, *more = sys.argv[1:]
    options = dict(zip(("user", "password", "ca_cert", "cert_cert", "cert_key"), more, strict=False))

    def connect(**changed):
        return etcd3.client(host=host, port=int(port), timeout=90, **{**options, **changed})

    client = connect()
    check("status", client.status().version == "3.4.35")
    check("members", len(list(client.members)) == 3)
    if options:
        denials(client, connect)
    key_values(client)
    watches(client)
    leases(client)
    locks(client, connect)
    client.close()


if __name__ == "__main__":
    main()

"""Uses a cluster through PyPI's aetcd (asyncio); run by the tests with its own Python.

Arguments: HOST PORT [USER PASSWORD].
"""

import asyncio
import sys

import aetcd


def check(what, condition):
    if not condition:
        raise SystemExit(f"python aetcd: {what}")
    print("ok", what)


async def key_values(client):
    await client.put(b"ay/a", b"1")
    found = await client.get(b"ay/a")
    check("get", found.value == b"1" and found.key == b"ay/a" and found.version == 1)
    await client.put(b"ay/b", b"2")
    found = await client.get_prefix(b"ay/", sort_order="descend")
    check("prefix", [row.value for row in found] == [b"2", b"1"])
    check("replace", await client.replace(b"ay/a", b"1", b"3"))
    check("replace of another value", not await client.replace(b"ay/a", b"1", b"4"))
    transactions = client.transactions
    succeeded, _ = await client.transaction(
        compare=[transactions.value(b"ay/a") == b"3"],
        success=[transactions.put(b"ay/a", b"4"), transactions.delete(b"ay/b")],
        failure=[],
    )
    check("transaction", succeeded and (await client.get(b"ay/a")).value == b"4")
    check("delete", (await client.delete(b"ay/a", prev_kv=True)).prev_kv.value == b"4")
    check("delete of nothing", not getattr(await client.delete(b"ay/a"), "deleted", 0))


async def watches(client):
    watch = await client.watch_prefix(b"aw/")
    await client.put(b"aw/a", b"1")
    await client.delete(b"aw/a")
    seen = []
    async for event in watch:
        seen.append((str(event.kind), event.kv.key, event.kv.value))
        if len(seen) == 2:
            break
    await watch.cancel()
    check("watch", seen == [("PUT", b"aw/a", b"1"), ("DELETE", b"aw/a", b"")])


async def leases(client):
    lease = await client.lease(300)
    await client.put(b"al/a", b"1", lease=lease)
    check("keep alive", (await lease.refresh()).TTL == 300)
    await lease.revoke()
    check("revoke", await client.get(b"al/a") is None)


async def locks(client):
    async with client.lock(b"alock", ttl=60) as held:
        check("lock", await held.is_acquired())
    again = client.lock(b"alock", ttl=60)
    taken = await again.acquire(timeout=60)
    await again.release()
    check("a released lock is free", taken)


async def denials(client, host, port, user):
    for key in (b"other", b"/other"):
        try:
            await client.get(key)
        except aetcd.exceptions.ClientError as problem:
            check("permission denied", "permission denied" in str(problem))
        else:
            check("a key of others is refused", False)
    try:
        async with aetcd.Client(host=host, port=port, username=user, password="wrong", timeout=90):
            check("a wrong password is refused", False)
    except aetcd.exceptions.ClientError as problem:
        check("wrong password", "invalid user ID or password" in str(problem))


async def main():
    host, port = sys.argv[1], int(sys.argv[2])
    user, password = sys.argv[3:] or (None, None)
    async with aetcd.Client(host=host, port=port, username=user, password=password, timeout=90) as client:
        if user:
            await denials(client, host, port, user)
        await key_values(client)
        await watches(client)
        await leases(client)
        await locks(client)


asyncio.run(main())

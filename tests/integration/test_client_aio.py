"""``client.aio`` with real servers, silent peers, forked children and interpreters that exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

from tests.conftest import SECRET, unique_prefix
from tests.integration.test_forked_children import in_child
from tests.scripted import ScriptedPeer
from tiered.cli.demo.server import PrivateMemcached
from tiered.clients.aio import AsyncView
from tiered.clients.inproc import InprocCacheClient
from tiered.clients.memcached import MemcachedClient
from tiered.clients.tiered import TieredInclusiveClient
from tiered.errors import KeyEncodingError, NoServersError, UnsupportedOperation


def test_a_thousand_calls_at_once_wait_for_their_turn_and_not_for_a_connection(
    memcached: PrivateMemcached,
) -> None:
    with MemcachedClient(
        [memcached.address],
        checksum_key=SECRET,
        prefix=unique_prefix(),
        pool_size=2,
        pool_timeout=0.001,
        strict=True,
    ) as client:
        assert client.concurrency == 2

        async def main() -> None:
            keys = range(1000)
            assert all(await asyncio.gather(*(client.aio.put(key, key, 60) for key in keys)))
            assert await asyncio.gather(*(client.aio.get(key) for key in keys)) == list(keys)
            assert await client.aio.get_multi(keys) == {key: key for key in keys}

        asyncio.run(main())
        assert client.stats.errors == 0


def test_errors_of_a_server_are_those_of_the_client(remote: MemcachedClient) -> None:
    async def main() -> None:
        with pytest.raises(KeyEncodingError, match="object"):
            await remote.aio.get(object())
        with pytest.raises(UnsupportedOperation, match="NamespaceWrapper"):
            await remote.aio.clear()
        claim = await remote.aio.claim("k")
        assert claim is not None
        assert await remote.aio.claim("k") is None
        assert await claim.fill("v", 60)
        assert await remote.aio.get("k") == "v"

    asyncio.run(main())


def test_the_loop_ticks_while_a_peer_is_silent() -> None:
    asked, answer = threading.Event(), threading.Event()

    def silent(_: bytes) -> bytes | None:
        asked.set()
        answer.wait(20)
        return None  # it closes the connection

    with ScriptedPeer(silent) as peer:
        client = MemcachedClient([peer.address], checksum_key=SECRET, timeout=20.0, strict=True)
        tiers = TieredInclusiveClient(InprocCacheClient(10), client)
        tiers.clients[0].put("near", 1, 60)

        async def main() -> list[str]:
            events = []

            async def read() -> None:
                with pytest.raises(NoServersError):
                    await client.aio.get("k")
                events.append("answered")

            reading = asyncio.create_task(read())
            while not asked.is_set():
                await asyncio.sleep(0.001)
            for _ in range(3):
                assert await tiers.aio.get("near") == 1
                await asyncio.sleep(0)
                events.append("tick")
            answer.set()
            await reading
            return events

        assert asyncio.run(main()) == ["tick"] * 3 + ["answered"]


def test_children_await_on_threads_of_their_own(memcached: PrivateMemcached) -> None:
    client = MemcachedClient([memcached.address], checksum_key=SECRET, prefix=unique_prefix())
    stop = threading.Event()

    async def busy() -> None:
        while not stop.is_set():
            await asyncio.gather(*(client.aio.put(key, key, 60) for key in range(20)))

    def child() -> bool:
        async def main() -> bool:
            await asyncio.gather(*(client.aio.put(("child", key), key, 60) for key in range(50)))
            got = await asyncio.gather(*(client.aio.get(("child", key)) for key in range(50)))
            return list(got) == list(range(50)) and client.stats.errors == 0

        return asyncio.run(main())

    parent = threading.Thread(target=lambda: asyncio.run(busy()))
    parent.start()
    try:
        for _ in range(10):
            in_child(child)
    finally:
        stop.set()
        parent.join(20)
        client.close()
    assert client.stats.errors == 0


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


PRELUDE = """
import asyncio, threading, time
from tiered import InprocCacheClient, Wrapper

never, asked = threading.Event(), threading.Event()

class Silent(Wrapper):
    capabilities = property(lambda self: super().capabilities._replace(blocking=True))

    def near(self, key):
        return None

    def entry(self, key):
        asked.set()
        never.wait()

client = Silent(InprocCacheClient(10))
"""


def test_an_interpreter_that_exits_does_not_wait_for_a_silent_server() -> None:
    done = run(
        PRELUDE
        + textwrap.dedent("""
        async def main():
            try:
                await asyncio.wait_for(asyncio.gather(*map(client.aio.get, range(100))), 0.1)
            except TimeoutError:
                print("leaving")

        asyncio.run(main())
        """)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_a_loop_of_a_daemon_thread_is_no_trouble_at_exit() -> None:
    done = run(
        PRELUDE
        + textwrap.dedent("""
        async def main():
            await asyncio.gather(*map(client.aio.get, range(100)), return_exceptions=True)

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        asked.wait()
        print("leaving")
        """)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_a_view_with_threads_of_its_own_reads_what_others_wrote(remote: MemcachedClient) -> None:
    remote.put("k", "v", 60)
    assert asyncio.run(AsyncView(remote, concurrency=1).get("k")) == "v"

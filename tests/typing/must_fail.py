"""What type checkers must refuse: each line that is marked, and no other."""

from __future__ import annotations

from tiered import InprocCacheClient, cached
from tiered.region import make_region

client = InprocCacheClient(10)


@cached(client, 60)
def plain(x: int, *, flag: bool = False) -> str:
    return str(x)


@cached(client, 60)
async def awaited(x: int) -> str:
    return str(x)


class Service:
    @cached(client, 60)
    def plain(self, x: int) -> str:
        return str(x)


plain("1")  # refused
plain()  # refused
plain(1, flags=True)  # refused
plain.peek("1")  # refused
plain.lazy(1, 2)  # refused
plain.refresh("1")  # refused
plain.invalidate("1")  # refused
plain.expire()  # refused
plain.get_ttl(1, flag="no")  # refused
plain.bg()("1")  # refused
plain.bg().lazy("1")  # refused
plain.future()("1")  # refused
plain.future().peek()  # refused
plain.put(1)  # refused
plain.put(1, _cache_put=1)  # refused
plain.uncached("1")  # refused
plain.nothing(1)  # refused
number: int = plain(1)  # refused
answer: int = plain.future()(1).result()  # refused
cached(client)  # refused
cached(60, client)  # refused
cached(client, 60, async_ttl="5")  # refused
cached(client, 60, unknown=5)  # refused
cached(client, 60)(5)  # refused


async def calls(service: Service) -> None:
    await awaited("1")  # refused
    await awaited.peek("1")  # refused
    await awaited.invalidate()  # refused
    await plain.aio("1")  # refused
    await plain.aio.lazy("1")  # refused
    await plain(1)  # refused
    number: int = await awaited(1)  # refused
    service.plain("1")  # refused
    service.plain.peek("1")  # refused
    service.plain.bg()("1")  # refused
    assert number


region = make_region().configure("memory")


@region.cache_on_arguments()
def kept(x: int) -> str:
    return str(x)


@region.aio.cache_on_arguments()
def kept_for_loops(x: int) -> str:
    return str(x)


kept("1")  # refused
kept.refresh("1")  # refused
kept(1) + 1  # refused
kept_for_loops(1) + "1"  # refused

"""Servers from DNS, asked of a real name server whose answers change and go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.nameserver import Fault, Nameserver
from tests.opened import Opened
from tiered.clock import SYSTEM_CLOCK
from tiered.errors import DiscoveryError
from tiered.routing.addresses import Address
from tiered.routing.discovery import Found
from tiered.routing.dns import DnsDiscovery, SrvDiscovery
from tiered.routing.watch import Watch

NAME = "cache.example"
SERVICE = "_memcached._tcp.example"
SHORT = 0.6
"""Seconds for a find that is to fail by its timeout."""
PATIENCE = 60.0
"""Seconds for one that is to succeed, or to fail at once; a third of it for each question."""


@pytest.fixture
def dns() -> Iterator[Nameserver]:
    with Nameserver() as server:
        server.put(NAME, "A", ["10.0.0.2", "10.0.0.1"], ttl=90)
        server.put(NAME, "AAAA", ["fd00:0::1"], ttl=70)
        server.put(SERVICE, "SRV", ["10 5 11211 a.example.", "10 5 11300 b.example."], ttl=80)
        yield server


def addresses(dns: Nameserver, name: str = NAME, **options: Any) -> DnsDiscovery:
    options = {"timeout": PATIENCE, "hosts_file": None, **options}
    return DnsDiscovery(name, nameservers=[dns.address], **options)


def service(dns: Nameserver, **options: Any) -> SrvDiscovery:
    return SrvDiscovery(SERVICE, nameservers=[dns.address], **{"timeout": PATIENCE, **options})


def hosts(found: Found) -> list[str]:
    return [str(address) for address in found.addresses]


# -- Names with several addresses ------------------------------------------------------


def test_every_address_of_a_name_is_a_server_for_the_shortest_ttl(dns: Nameserver) -> None:
    found = addresses(dns).find()
    assert hosts(found) == ["10.0.0.1:11211", "10.0.0.2:11211", "[fd00::1]:11211"]
    assert found.ttl == 70
    assert found.weights is None
    assert [kind for _, _, kind in dns.asked] == ["A", "AAAA"]


def test_all_have_the_port_that_was_given(dns: Nameserver) -> None:
    found = DnsDiscovery(NAME, 5, nameservers=[dns.address], hosts_file=None).find()
    assert {address.port for address in found.addresses} == {5}


@pytest.mark.parametrize(
    ("absent", "expected", "ttl"),
    [("AAAA", ["10.0.0.1:11211", "10.0.0.2:11211"], 90), ("A", ["[fd00::1]:11211"], 70)],
)
def test_a_name_may_have_addresses_of_one_family_only(
    dns: Nameserver, absent: str, expected: list[str], ttl: float
) -> None:
    dns.put(NAME, absent, [])
    found = addresses(dns).find()
    assert hosts(found) == expected
    assert found.ttl == ttl


@pytest.mark.parametrize(("family", "kind"), [("ipv4", "A"), ("ipv6", "AAAA")])
def test_only_the_chosen_family_is_asked_for(dns: Nameserver, family: Any, kind: str) -> None:
    addresses(dns, family=family).find()
    assert {asked for _, _, asked in dns.asked} == {kind}


def test_a_name_without_addresses_is_a_failure(dns: Nameserver) -> None:
    dns.put(NAME, "A", [])
    dns.put(NAME, "AAAA", [])
    with pytest.raises(DiscoveryError, match=r"'cache.example' has no addresses \(A, AAAA\)"):
        addresses(dns).find()


def test_nothing_is_remembered_from_one_find_to_the_next(dns: Nameserver) -> None:
    discovery = addresses(dns, family="ipv4")
    assert len(discovery.find().addresses) == 2
    dns.put(NAME, "A", ["10.0.0.7"], ttl=3)
    assert discovery.find() == Found((Address("10.0.0.7", 11211),), 3)
    dns.put(NAME, "A", [])
    with pytest.raises(DiscoveryError):
        discovery.find()


def test_the_hosts_file_comes_first_and_then_the_name_server(
    dns: Nameserver, tmp_path: Path
) -> None:
    file = tmp_path / "hosts"
    file.write_text(f"10.9.9.9 {NAME}\n")
    discovery = addresses(dns, hosts_file=str(file))
    assert hosts(discovery.find()) == ["10.9.9.9:11211"]
    assert not dns.asked
    file.write_text("10.9.9.9 other.example\n")
    assert len(discovery.find().addresses) == 3


def test_more_addresses_than_a_datagram_holds_come_over_tcp(dns: Nameserver) -> None:
    dns.put(NAME, "A", [f"10.1.{n // 250}.{n % 250}" for n in range(600)])
    dns.faults["A"] = Fault.TRUNCATE_UDP
    assert len(addresses(dns, family="ipv4").find().addresses) == 600
    assert [transport for transport, _, _ in dns.asked] == ["udp", "tcp"]


def test_the_search_list_of_the_machine_is_not_for_the_name_servers_of_others(
    dns: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host.inside.example")
    with pytest.raises(DiscoveryError):
        addresses(dns, "nowhere").find()
    assert {name for _, name, _ in dns.asked} == {"nowhere"}


def test_the_machines_configuration_is_used_where_no_name_server_is_given(
    dns: Nameserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dns.resolver as library

    host, _, port = dns.address.rpartition(":")
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {host}\nsearch inside.example example\n")
    read = library.Resolver.read_resolv_conf

    def read_ours(self: Any, _path: Any) -> None:
        read(self, str(resolv))
        self.port = int(port)  # resolv.conf has no ports

    monkeypatch.setattr(library.Resolver, "read_resolv_conf", read_ours)
    assert len(DnsDiscovery("cache", hosts_file=None, timeout=PATIENCE).find().addresses) == 3
    assert [name for _, name, _ in dns.asked] == [
        "cache.inside.example",
        "cache.example",
        "cache.inside.example",
        "cache.example",
    ]
    resolv.write_text("")
    with pytest.raises(DiscoveryError, match=r"name servers of this machine|A records"):
        DnsDiscovery("cache", hosts_file=None, timeout=PATIENCE).find()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"nameserver\n", b"nameserver somewhere\n", b"\xff\xfe\n", b"search a..b\n"],
    ids=["missing", "empty", "no address", "no such address", "no text", "no name"],
)
def test_a_configuration_that_is_none_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    import dns.resolver as library

    resolv = tmp_path / "resolv.conf"
    if content is not None:
        resolv.write_bytes(content)
    read = library.Resolver.read_resolv_conf
    monkeypatch.setattr(
        library.Resolver, "read_resolv_conf", lambda self, _path: read(self, str(resolv))
    )
    for discovery in (DnsDiscovery(NAME, hosts_file=None), SrvDiscovery(SERVICE)):
        with pytest.raises(DiscoveryError, match=r"^the name servers of this machine: "):
            discovery.find()


# -- Aliases ---------------------------------------------------------------------------


@pytest.mark.parametrize("lone", [False, True], ids=["in one answer", "one by one"])
def test_aliases_are_followed_and_have_their_say_in_the_ttl(dns: Nameserver, lone: bool) -> None:
    dns.lone_aliases = lone
    dns.put("www.example", "CNAME", ["middle.example."], ttl=40)
    dns.put("middle.example", "CNAME", [f"{NAME}."], ttl=50)
    found = addresses(dns, "www.example").find()
    assert len(found.addresses) == 3
    assert found.ttl == 40


def test_an_alias_of_a_service_is_followed(dns: Nameserver) -> None:
    dns.put("alias.example", "CNAME", [f"{SERVICE}."], ttl=20)
    found = SrvDiscovery("alias.example", nameservers=[dns.address]).find()
    assert hosts(found) == ["a.example:11211", "b.example:11300"]
    assert found.ttl == 20


@pytest.mark.parametrize("lone", [False, True], ids=["in one answer", "one by one"])
def test_aliases_of_each_other_end(dns: Nameserver, lone: bool) -> None:
    dns.lone_aliases = lone
    dns.put("www.example", "CNAME", ["web.example."])
    dns.put("web.example", "CNAME", ["www.example."])
    with pytest.raises(DiscoveryError, match=r"'www\.example'"):
        addresses(dns, "www.example").find()
    assert len(dns.asked) < 20


def test_an_alias_of_nothing_is_a_failure(dns: Nameserver) -> None:
    dns.lone_aliases = True
    dns.put("www.example", "CNAME", ["nowhere.example."])
    with pytest.raises(DiscoveryError, match="does not exist"):
        addresses(dns, "www.example").find()


# -- Services --------------------------------------------------------------------------


def test_the_targets_of_a_service_are_servers_by_name(dns: Nameserver) -> None:
    expected = (Address("a.example", 11211), Address("b.example", 11300))
    assert service(dns).find() == Found(expected, 80, None)


def test_weights_are_kept_beside_their_servers(dns: Nameserver) -> None:
    dns.put(SERVICE, "SRV", ["0 7 1 C.example.", "0 0 1 b.example.", "0 30 2 b.example."])
    found = service(dns).find()
    assert hosts(found) == ["b.example:1", "b.example:2", "c.example:1"]
    assert found.weights == (1, 30, 7)


def test_a_target_named_twice_has_the_sum_of_its_weights(dns: Nameserver) -> None:
    dns.put(SERVICE, "SRV", ["0 7 1 a.example.", "0 8 1 A.example.", "0 1 1 b.example."])
    assert service(dns).find()[::2] == ((Address("a.example", 1), Address("b.example", 1)), (15, 1))


def test_only_the_lowest_priority_counts(dns: Nameserver) -> None:
    dns.put(SERVICE, "SRV", ["9 5 1 a.example.", "10 5 1 b.example.", "9 5 1 c.example."])
    assert hosts(service(dns).find()) == ["a.example:1", "c.example:1"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "has no SRV records"),
        (["0 0 0 ."], r"has an SRV record for \.:0"),
        (["0 0 11211 ."], r"has an SRV record for \.:11211"),
        (["0 0 0 a.example."], "has an SRV record for a.example:0"),
        (["0 0 1 a.example.", r"0 0 1 b\032b.example."], "has an SRV record for b"),
    ],
)
def test_a_service_that_names_no_server_is_a_failure(
    dns: Nameserver, records: list[str], message: str
) -> None:
    dns.put(SERVICE, "SRV", records)
    dns.put(SERVICE, "TXT", ["there"])
    with pytest.raises(DiscoveryError, match=message):
        service(dns).find()


# -- Faults ----------------------------------------------------------------------------

ALWAYS_FATAL = [
    Fault.DROP,
    Fault.SERVFAIL,
    Fault.REFUSED,
    Fault.NXDOMAIN,
    Fault.TRUNCATE,
    Fault.OTHER_QUESTION,
    Fault.OTHER_ID,
    Fault.OTHER_PORT,
    Fault.GARBAGE,
    Fault.CUT,
]


@pytest.mark.parametrize("fault", ALWAYS_FATAL)
def test_what_is_no_answer_is_a_failure_within_the_timeout(dns: Nameserver, fault: Fault) -> None:
    dns.faults["*"] = fault
    for discovery in (addresses(dns, timeout=SHORT), service(dns, timeout=SHORT)):
        began = time.monotonic()
        with pytest.raises(DiscoveryError, match=r"records of '.*example'"):
            discovery.find()
        assert time.monotonic() - began < 4.0  # what resolves would take 5 s by itself


def test_nobody_sleeps_between_the_tries(dns: Nameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    dns.faults["*"] = Fault.DROP
    slept: list[float] = []
    sleep, ours = time.sleep, threading.get_ident()

    def noted(seconds: float) -> None:
        if threading.get_ident() == ours:
            slept.append(seconds)
        else:  # there is one clock module for all threads of the process
            sleep(seconds)

    monkeypatch.setattr("dns.resolver.time.sleep", noted)
    with pytest.raises(DiscoveryError):
        addresses(dns, family="ipv4", timeout=SHORT).find()
    assert sum(slept) <= 0.1  # once, when all tries were made


@pytest.mark.parametrize("kind", ["A", "AAAA"])
@pytest.mark.parametrize("fault", [Fault.DROP, Fault.SERVFAIL, Fault.NXDOMAIN])
def test_half_of_the_addresses_is_no_answer(dns: Nameserver, fault: Fault, kind: str) -> None:
    dns.faults[kind] = fault
    with pytest.raises(DiscoveryError, match=f"^{kind} records of 'cache.example'"):
        # What is lost takes its time, the other half has it.
        addresses(dns, timeout=3.0 if fault is Fault.DROP else PATIENCE).find()


def test_the_timeout_is_for_all_questions_together(dns: Nameserver) -> None:
    dns.faults["*"] = Fault.DELAY
    dns.delay = 0.25
    assert len(addresses(dns, timeout=8.0).find().addresses) == 3
    dns.delay = 0.6
    dns.put("www.example", "CNAME", ["web.example."])
    dns.put("web.example", "CNAME", ["www.example."])
    dns.lone_aliases = True
    began = time.monotonic()
    with pytest.raises(DiscoveryError, match="lifetime expired"):
        addresses(dns, "www.example", timeout=0.9).find()
    assert time.monotonic() - began < 4.0  # eight aliases take 4.8 s


def test_a_lost_datagram_is_asked_for_again(dns: Nameserver) -> None:
    dns.faults["A"] = Fault.DROP_ONCE
    assert len(addresses(dns, timeout=9.0).find().addresses) == 3
    assert [kind for _, _, kind in dns.asked] == ["A", "A", "AAAA"]


def test_another_name_server_is_asked_when_one_is_not_there(dns: Nameserver) -> None:
    with Nameserver() as silent:
        where = silent.address
        silent.faults["*"] = Fault.DROP
        discovery = DnsDiscovery(
            NAME, nameservers=[where, dns.address], hosts_file=None, timeout=6.0
        )
        assert len(discovery.find().addresses) == 3
        assert [kind for _, _, kind in silent.asked] == ["A"]  # once, not for each question
    with pytest.raises(DiscoveryError, match=r"A records of 'cache\.example'"):
        DnsDiscovery(NAME, nameservers=[where], hosts_file=None, timeout=SHORT).find()


def test_no_file_stays_open(dns: Nameserver) -> None:
    addresses(dns).find()
    opened = Opened()
    for fault in (None, Fault.SERVFAIL, Fault.TRUNCATE, Fault.CUT):
        if fault:
            dns.faults["*"] = fault
        try:
            addresses(dns, timeout=SHORT).find()
        except DiscoveryError:
            pass
    assert not opened.left()


# -- Watched ---------------------------------------------------------------------------


def test_many_threads_see_a_name_change_while_they_read(dns: Nameserver) -> None:
    dns.put(NAME, "AAAA", [])
    dns.put(NAME, "A", ["10.0.0.0"], ttl=0)
    watch = Watch(addresses(dns, timeout=5.0), SYSTEM_CLOCK, floor=0.02, longest=0.05)
    watch.current()
    newest = [0]
    trouble: list[object] = []
    end = time.monotonic() + 60

    def read() -> None:
        seen = -1
        try:
            while seen < 10:
                found = watch.current()
                now = int(found.addresses[0].host.rpartition(".")[2])
                assert seen <= now <= newest[0]  # nothing of before, nothing of nowhere
                assert len(found.addresses) == (200 if now == 10 else 1)
                seen = now
                assert time.monotonic() < end
                time.sleep(0.001)
        except BaseException as error:
            trouble.append(error)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    faults = [Fault.NXDOMAIN, Fault.SERVFAIL, Fault.TRUNCATE, Fault.CUT]
    for number in range(1, 10):
        before = watch.failures
        dns.faults["*"] = faults[number % len(faults)]
        while watch.failures == before:
            time.sleep(0.001)
        newest[0] = number
        dns.put(NAME, "A", [f"10.0.0.{number}"], ttl=0)
        dns.faults.clear()
        while watch.current().addresses[0].host != f"10.0.0.{number}":
            assert time.monotonic() < end
            time.sleep(0.001)
    newest[0] = 10
    dns.put(NAME, "A", [f"10.{n}.0.10" for n in range(200)], ttl=0)
    dns.faults["A"] = Fault.TRUNCATE_UDP
    for reader in readers:
        reader.join(60)
    assert not trouble
    assert watch.close(timeout=20)


def test_a_watch_follows_a_name_while_it_is_read(dns: Nameserver) -> None:
    dns.put(NAME, "AAAA", [])
    dns.put(NAME, "A", ["10.0.0.1"], ttl=0)
    opened = Opened()
    # Who waited for the answer that is held back would have the new one, and not what is known.
    watch = Watch(addresses(dns), SYSTEM_CLOCK, floor=0.02, longest=0.05)

    def read_until(expected: list[str]) -> None:
        end = time.monotonic() + 20
        while True:
            found = watch.current()
            if hosts(found) == expected:
                return
            assert time.monotonic() < end, found
            time.sleep(0.001)

    first = watch.current()
    assert hosts(first) == ["10.0.0.1:11211"]
    read_until(["10.0.0.1:11211"])
    assert watch.current() is first
    dns.put(NAME, "A", ["10.0.0.1", "10.0.0.2"], ttl=0)
    read_until(["10.0.0.1:11211", "10.0.0.2:11211"])
    known = watch.current()
    dns.faults["*"] = Fault.SERVFAIL
    while not watch.failures:
        assert watch.current() is known
        time.sleep(0.001)
    dns.put(NAME, "A", ["10.0.0.3"], ttl=0)
    assert watch.current() is known
    # No reader waits for the name server.
    dns.faults["*"] = Fault.HOLD
    end = time.monotonic() + 20
    while not dns.holds.is_set():
        assert watch.current() is known
        assert time.monotonic() < end
        time.sleep(0.001)
    for _ in range(100):
        assert watch.current() is known
    dns.go.set()
    read_until(["10.0.0.3:11211"])
    assert watch.close(timeout=20)
    assert not opened.left()

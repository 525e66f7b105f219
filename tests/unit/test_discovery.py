"""What tells a client which servers there are, as far as no network is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.errors import BackendError, DiscoveryError, MissingDependency
from tiered.routing.addresses import Address, is_ip_address
from tiered.routing.discovery import CallableDiscovery, Found, StaticDiscovery
from tiered.routing.dns import DnsDiscovery, SrvDiscovery
from tiered.routing.elasticache import MAX_REPLY, ElastiCacheDiscovery, Node, parse_configuration
from tiered.routing.hosts import listed_addresses
from tiered.sentinels import FOREVER

# -- Static ----------------------------------------------------------------------------


def test_static_servers_are_good_for_ever() -> None:
    discovery = StaticDiscovery(["b", "a:5"])
    assert discovery.find() == Found((Address("b", 11211), Address("a", 5)), FOREVER, None)
    assert discovery.find() is discovery.find()
    assert repr(discovery) == "StaticDiscovery(['b:11211', 'a:5'])"


@pytest.mark.parametrize("addresses", [[], ["a", "a"], "a", None])
def test_static_servers_that_cannot_be_right_are_refused_at_once(addresses: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="address"):
        StaticDiscovery(addresses)


# -- A function ------------------------------------------------------------------------


def test_a_function_is_asked_each_time() -> None:
    answers = [["a:1"], iter(["a:1", ("b", 2)])]
    discovery = CallableDiscovery(lambda: answers.pop(0), every=7)
    assert discovery.find() == Found((Address("a", 1),), 7)
    assert discovery.find() == Found((Address("a", 1), Address("b", 2)), 7)


def test_a_function_is_not_called_before_it_is_asked() -> None:
    def function() -> list[str]:
        raise AssertionError

    assert repr(CallableDiscovery(function)).endswith(".function, every=30)")


def generator_that_fails() -> Iterator[str]:
    yield "a"
    raise OSError("no database")


def raises(error: Exception) -> Callable[[], Any]:
    def function() -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raises(OSError("no database")), "OSError: no database"),
        (raises(KeyError("x")), "KeyError: 'x'"),
        (generator_that_fails, "OSError: no database"),
        (lambda: [], "at least one server"),
        (lambda: None, "addresses must be a list"),
        (lambda: "a:11211", "addresses must be a list"),
        (lambda: ["a:port"], "must be a number"),
        (lambda: ["a", "a"], "twice"),
        (lambda: [5], "not 5"),
    ],
)
def test_a_function_that_fails_or_tells_no_servers_is_a_failed_discovery(
    function: Callable[[], Any], message: str
) -> None:
    with pytest.raises(DiscoveryError, match=f"CallableDiscovery.* failed: .*{message}") as caught:
        CallableDiscovery(function).find()
    assert caught.value.__cause__ is not None


def test_a_functions_own_discovery_error_is_left_as_it_is() -> None:
    error = DiscoveryError("not today")
    with pytest.raises(DiscoveryError) as caught:
        CallableDiscovery(raises(error)).find()
    assert caught.value is error
    assert isinstance(error, BackendError)


def test_an_interrupt_is_no_failed_discovery() -> None:
    def function() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CallableDiscovery(function).find()


@pytest.mark.parametrize("every", [-1, float("nan"), "5", None, True])
def test_a_period_that_cannot_be_right_is_refused(every: Any) -> None:
    for make in (CallableDiscovery, ElastiCacheDiscovery):
        with pytest.raises((TypeError, ValueError), match="every must be 0 seconds or more"):
            make(lambda: b"", every)
    with pytest.raises(TypeError, match=r"function must be callable, not \['a'\]"):
        CallableDiscovery(["a"])  # type: ignore[arg-type]


# -- Hosts file ------------------------------------------------------------------------

HOSTS = """\
# 10.0.0.9 cache
127.0.0.1\tlocalhost
10.0.0.1  cache cache.example   # the first
10.0.0.2 other CACHE.example
10.0.0.1 cache.example
fe80::0:1%eth0 cache.example
not-an-ip cache.example
10.0.0.300 cache.example

10.0.0.7
"""


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    path = tmp_path / "hosts"
    path.write_bytes(HOSTS.encode() + b"10.0.0.8 caf\xe9\n10.0.0.3 last")
    return str(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cache", ("10.0.0.1",)),
        ("cache.example", ("10.0.0.1", "10.0.0.2", "fe80::1%eth0")),
        ("Cache.Example.", ("10.0.0.1", "10.0.0.2", "fe80::1%eth0")),
        ("last", ("10.0.0.3",)),
        ("first", ()),
        ("10.0.0.7", ()),
        ("", ()),
    ],
)
def test_a_hosts_file_lists_addresses_by_name(
    hosts: str, name: str, expected: tuple[str, ...]
) -> None:
    assert listed_addresses(name, hosts) == expected


def test_a_hosts_file_that_cannot_be_read_lists_nothing(tmp_path: Path) -> None:
    assert listed_addresses("cache", str(tmp_path / "none")) == ()
    assert listed_addresses("cache", str(tmp_path)) == ()


def test_a_name_in_the_hosts_file_needs_no_name_server(hosts: str) -> None:
    # Port 9 of this machine answers nothing: a question would be a failure.
    discovery = DnsDiscovery("Cache.example", 5, nameservers=["127.0.0.1:9"], hosts_file=hosts)
    assert discovery.find() == Found(
        (Address("10.0.0.1", 5), Address("10.0.0.2", 5), Address("fe80::1%eth0", 5)), 60.0
    )


@pytest.mark.parametrize(("family", "count"), [("ipv4", 2), ("ipv6", 1)])
def test_the_family_holds_for_the_hosts_file(hosts: str, family: Any, count: int) -> None:
    found = DnsDiscovery("cache.example", family=family, hosts_file=hosts).find()
    assert len(found.addresses) == count


# -- Arguments of the DNS discoveries --------------------------------------------------


@pytest.mark.parametrize("make", [DnsDiscovery, SrvDiscovery])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must be a host name .*, not ''"),
        ({"name": "."}, ValueError, "name must be"),
        ({"name": "a..b"}, ValueError, "name must be"),
        ({"name": "a b"}, ValueError, "name must be"),
        ({"name": "a:11211"}, ValueError, "name must be"),
        ({"name": "a\\046b"}, ValueError, "name must be"),
        ({"name": "x" * 64}, ValueError, "name must be"),
        ({"name": "x." * 128}, ValueError, "name must be"),
        ({"name": "10.0.0.1"}, ValueError, "name '10.0.0.1' is an IP address"),
        ({"name": b"a"}, TypeError, "name must be a host name .*, not b'a'"),
        ({"name": None}, TypeError, "not None"),
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds"),
        ({"timeout": "2"}, TypeError, "timeout must be a number of seconds"),
        ({"nameservers": []}, ValueError, "nameservers must name at least one"),
        ({"nameservers": "10.0.0.2"}, TypeError, r"nameservers must be a list such as"),
        ({"nameservers": 5}, TypeError, "nameservers must be a list"),
        ({"nameservers": ["ns.example"]}, ValueError, "must be IP addresses, not 'ns.example'"),
        ({"nameservers": ["10.0.0.2:x"]}, ValueError, "has the port 'x'"),
        ({"nameservers": ["/run/dns.sock"]}, ValueError, "must be IP addresses"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_at_once(
    make: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(**{"name": "cache.example", **arguments})


@pytest.mark.parametrize("arguments", [{"port": 0}, {"port": "11211"}, {"family": "ipv5"}])
def test_a_port_or_family_that_cannot_be_right_is_refused_at_once(arguments: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"port|family must be"):
        DnsDiscovery("cache.example", **arguments)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.2", Address("10.0.0.2", 53)),
        ("10.0.0.2:5353", Address("10.0.0.2", 5353)),
        ("::1", Address("::1", 53)),
        ("[::1]", Address("::1", 53)),
        ("[::1]:5353", Address("::1", 5353)),
        (("10.0.0.2", 5353), Address("10.0.0.2", 5353)),
    ],
)
def test_a_name_server_is_an_ip_address_with_or_without_a_port(text: Any, address: Address) -> None:
    assert SrvDiscovery("a", nameservers=[text])._nameservers == (address,)


def test_discoveries_show_what_they_look_for() -> None:
    assert repr(DnsDiscovery("cache.example", 5)) == "DnsDiscovery('cache.example', 5)"
    assert repr(SrvDiscovery("_m._tcp.x")) == "SrvDiscovery('_m._tcp.x')"
    assert repr(ElastiCacheDiscovery(bytes)) == "ElastiCacheDiscovery(every=60)"


@pytest.mark.parametrize("make", [DnsDiscovery, SrvDiscovery])
def test_without_dnspython_the_error_says_what_to_install(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    with pytest.raises(MissingDependency, match=r"pip install 'dnspython>=2\.4'$"):
        make("cache.invalid").find()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1", True), ("::1", True), ("[::1]", False), ("10.0.0.1:5", False), ("a", False)],
)
def test_ip_addresses_are_told_from_names(text: str, expected: bool) -> None:
    assert is_ip_address(text) is expected


# -- ElastiCache -----------------------------------------------------------------------

NODES = b"a.example|10.0.0.1|11211 B.example||11212 c.example|fd00::1|11211"


def reply(data: bytes, head: bytes = b"CONFIG cluster", length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return head + b" 0 %d\r\n" % size + data + b"\r\nEND\r\n"


WHOLE = reply(b"12\n" + NODES + b"\n")


@pytest.mark.parametrize(
    "whole",
    [
        WHOLE,
        reply(b"12\n" + NODES + b"\n", b"VALUE AmazonElastiCache:cluster"),
        reply(b"12\n" + NODES),
    ],
    ids=["config get cluster", "get AmazonElastiCache:cluster", "no newline after the nodes"],
)
def test_a_configuration_has_a_version_and_nodes(whole: bytes) -> None:
    assert parse_configuration(whole) == (
        12,
        (
            Node("a.example", "10.0.0.1", 11211),
            Node("B.example", "", 11212),
            Node("c.example", "fd00::1", 11211),
        ),
    )


def test_the_example_of_the_manual_is_understood() -> None:
    data = (
        b"12\nmyCluster.pc4ldq.0001.use1.cache.amazonaws.com|10.82.235.120|11211 "
        b"myCluster.pc4ldq.0002.use1.cache.amazonaws.com|10.80.249.27|11211\n"
    )
    assert len(data) == 136
    version, nodes = parse_configuration(b"CONFIG cluster 0 136\r\n" + data + b"\r\nEND\r\n")
    assert version == 12
    assert nodes[1].host == "myCluster.pc4ldq.0002.use1.cache.amazonaws.com"


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_a_reply_cut_anywhere_is_refused(end: int) -> None:
    with pytest.raises(DiscoveryError):
        parse_configuration(WHOLE[:end])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"ERROR\r\n", r"no configuration of a cluster: b'ERROR\\r\\n'"),
        (b"END\r\n", "no configuration"),
        (b"x" * 1000, r"no configuration of a cluster: b'x{80}'\.\.\."),
        (WHOLE + b"x", "does not have the .* bytes"),
        (WHOLE + WHOLE, "does not have the .* bytes"),
        (b"\r\n" + WHOLE, "no configuration"),
        (WHOLE.replace(b"cluster 0", b"cluster -1"), "no configuration"),
        (WHOLE.replace(b"cluster", b"others"), "no configuration"),
        (reply(NODES, length=9_999_999), "does not have the 9999999 bytes"),
        (reply(NODES, length=10**30), "no configuration"),
        (WHOLE.replace(b"0 69", b"0 -5"), "no configuration"),
        (WHOLE.replace(b"0 69", "0 ٦٩".encode()), "no configuration"),
        (reply(NODES), "has the version"),
        (reply(b""), "has the version b''"),
        (reply(b"12"), "has the version b'12'"),
        (reply(b"-1\n" + NODES), "has the version b'-1'"),
        (reply(b"1" * 5000 + b"\n" + NODES), r"has the version b'1{80}'\.\.\."),
        (reply(b"12\n"), "has the node ''"),
        (reply(b"12\n\n"), "has the node ''"),
        (reply(b"12\na|1.2.3.4|1 "), "has the node ''"),
        (reply(b"12\na|1.2.3.4|1  b|1.2.3.4|1"), "has the node ''"),
        (reply(b"12\na|1.2.3.4|1\n\n"), "has the node"),
        (reply(b"12\n|1.2.3.4|1"), "has the node"),
        (reply(b"12\na|1.2.3|1"), "has the node 'a.1.2.3.1'"),
        (reply(b"12\na|1.2.3.4|0"), "has the node"),
        (reply(b"12\na|1.2.3.4|65536"), "has the node"),
        (reply(b"12\na|1.2.3.4|-1"), "has the node"),
        (reply(b"12\na|1.2.3.4"), "has the node"),
        (reply(b"12\na|1.2.3.4|1|2"), "has the node"),
        (reply(b"12\na b|1.2.3.4|1"), "has the node 'a'"),
        (reply(b"12\n\xe9|1.2.3.4|1"), "has the node"),
        (reply(b"12\na\0|1.2.3.4|1"), "has the node"),
        (reply(b"12\na|1.2.3.4|1 A||1"), "has a node twice"),
        (reply(b"12\n" + b" ".join(b"h%d||1" % n for n in range(4097))), "more than 4096 nodes"),
        (b"x" * (MAX_REPLY + 1), "1048577 bytes; 1048576 may be"),
    ],
)
def test_what_is_no_configuration_is_refused(bad: bytes, message: str) -> None:
    with pytest.raises(DiscoveryError, match=message):
        parse_configuration(bad)


pieces = st.sampled_from(
    [b"CONFIG cluster", b" 0 ", b"5", b"\r\n", b"\n", b"12\n", NODES, b"END", b"|", b" ", b"\0"]
)


@given(st.binary() | st.lists(pieces | st.binary(max_size=3)).map(b"".join))
def test_garbage_is_refused_and_never_anything_else(garbage: bytes) -> None:
    try:
        version, nodes = parse_configuration(garbage)
    except DiscoveryError:
        return
    assert version >= 0
    assert nodes


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_nodes_that_are_possible(place: int, byte: int) -> None:
    changed = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    try:
        _, nodes = parse_configuration(changed)
    except DiscoveryError:
        return
    assert 3 <= len(nodes) <= 4
    for node in nodes:
        Address(node.host, node.port)
        assert node.host
        assert 0 < node.port < 65536


labels = st.from_regex(r"[A-Za-z0-9-]{1,20}(\.[a-z0-9]{1,9})?", fullmatch=True)
ips = st.just("") | st.ip_addresses().map(str)
nodes = st.lists(
    st.builds(Node, labels, ips, st.integers(1, 65535)),
    min_size=1,
    max_size=20,
    unique_by=lambda node: (node.host.lower(), node.port),
)


@given(st.integers(0, 10**18 - 1), nodes)
def test_every_configuration_is_understood(version: int, nodes: list[Node]) -> None:
    line = " ".join(f"{node.host}|{node.ip}|{node.port}" for node in nodes)
    assert parse_configuration(reply(f"{version}\n{line}\n".encode())) == (version, tuple(nodes))


def test_the_endpoint_is_asked_and_the_nodes_are_called_by_name() -> None:
    discovery = ElastiCacheDiscovery(lambda: WHOLE, every=9)
    assert discovery.find() == Found(
        (Address("a.example", 11211), Address("b.example", 11212), Address("c.example", 11211)), 9
    )


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (raises(OSError("refused")), "the configuration endpoint failed: OSError: refused"),
        (raises(BackendError("gone")), "BackendError: gone"),
        (lambda: b"ERROR\r\n", "no configuration of a cluster"),
    ],
)
def test_an_endpoint_that_fails_is_a_failed_discovery(
    ask: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(DiscoveryError, match=message):
        ElastiCacheDiscovery(ask).find()


def test_a_node_that_has_not_heard_of_a_change_does_not_undo_it() -> None:
    replies: list[bytes] = []
    discovery = ElastiCacheDiscovery(lambda: replies.pop(0))

    def hosts(*versions: int) -> list[str]:
        replies.extend(reply(b"%d\na%d.example||11211\n" % (one, one)) for one in versions)
        return [discovery.find().addresses[0].host for _ in versions]

    assert hosts(12, 13, 12, 13, 13) == ["a12.example"] + ["a13.example"] * 4
    assert hosts(12, 11, 12, 11, 12) == ["a13.example"] * 5
    assert hosts(13) == ["a13.example"]  # and the patience is as before
    assert hosts(1, 1, 1, 1, 1, 1, 2) == ["a13.example"] * 5 + ["a1.example", "a2.example"]

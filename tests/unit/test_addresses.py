"""Server addresses, as people write them and as they must not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiered.routing.addresses import Address, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("localhost", Address("localhost", 11211), "localhost:11211"),
        ("10.0.0.1:11212", Address("10.0.0.1", 11212), "10.0.0.1:11212"),
        ("host:1", Address("host", 1), "host:1"),
        ("host:65535", Address("host", 65535), "host:65535"),
        ("[::1]:11212", Address("::1", 11212), "[::1]:11212"),
        ("[::1]", Address("::1", 11211), "[::1]:11211"),
        ("[fe80::1%eth0]:5", Address("fe80::1%eth0", 5), "[fe80::1%eth0]:5"),
        ("/run/m.sock", Address("/run/m.sock", 0), "/run/m.sock"),
        ("/run/two words: 1", Address("/run/two words: 1", 0), "/run/two words: 1"),
        ("unix:/run/m.sock", Address("/run/m.sock", 0), "/run/m.sock"),
        (("host", 5), Address("host", 5), "host:5"),
        (("::1", 5), Address("::1", 5), "[::1]:5"),
        (Address("a", 1), Address("a", 1), "a:1"),
    ],
)
def test_an_address_may_be_written_in_each_of_the_usual_ways(
    text: Any, address: Address, shown: str
) -> None:
    assert parse_address(text) == address
    assert str(address) == shown
    assert address.is_unix is (address.port == 0)


hosts = st.sampled_from(["localhost", "10.0.0.1", "a.b-c.example", "::1", "fe80::1%eth0"])


@given(
    st.builds(Address, hosts, st.integers(1, 65535))
    | st.text(st.characters(exclude_categories=["Cs"])).map(lambda path: Address(f"/{path}", 0))
)
def test_what_an_address_shows_can_be_given_again(address: Address) -> None:
    assert parse_address(str(address)) == address
    if not address.is_unix:
        assert parse_address((address.host, address.port)) == address


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "must be 'host', 'host:port', .*, not ''"),
        (":11211", ValueError, "not ':11211'"),
        ("[]:1", ValueError, r"not '\[\]:1'"),
        ("host:", ValueError, "'host:' has the port ''; it must be a number"),
        ("host:port", ValueError, "has the port 'port'; it must be a number"),
        ("host:-1", ValueError, "has the port '-1'; it must be a number"),
        ("host: 1", ValueError, "has the port ' 1'; it must be a number"),
        ("host:²", ValueError, "has the port '²'; it must be a number"),
        ("host:٣", ValueError, "has the port '٣'; it must be a number"),
        ("[::1]:", ValueError, "has the port ''; it must be a number"),
        ("host:0", ValueError, "has the port 0; it must be 1 to 65535"),
        ("host:65536", ValueError, "has the port 65536; it must be 1 to 65535"),
        ("two words:1", ValueError, "not 'two words:1'"),
        ("host\r\n", ValueError, "must be"),
        ("a,b", ValueError, "not 'a,b'"),
        ("a;b", ValueError, "not 'a;b'"),
        ("unix:relative.sock", ValueError, "has the port 'relative.sock'"),
        ("relative/path", ValueError, "not 'relative/path'"),
        ("http://host", ValueError, "'http://host'"),
        ("::1", ValueError, r"'::1' looks like IPv6; write it as '\[::1\]:port'"),
        ("::1:11211", ValueError, "looks like IPv6"),
        ("[::1", ValueError, r"not '\[::1'"),
        ("[::1]11211", ValueError, r"not '\[::1\]11211'"),
        (("", 5), ValueError, r"not \('', 5\)"),
        (("host", 0), ValueError, r"\('host', 0\) has the port 0"),
        (("host", -1), ValueError, "has the port -1"),
        (("/run/m.sock", 5), ValueError, "must be"),
        (("host", "1"), TypeError, r"\('host', '1'\) has a port that is not an int"),
        (("host", True), TypeError, "has a port that is not an int"),
        (("host", 1.0), TypeError, "has a port that is not an int"),
        (("host",), TypeError, r"not \('host',\)"),
        ((5, "host"), TypeError, r"not \(5, 'host'\)"),
        (["host", 1], TypeError, r"not \['host', 1\]"),
        (11211, TypeError, "not 11211"),
        (None, TypeError, "not None"),
        (b"host", TypeError, "not b'host'"),
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_one(
    text: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^address .*{message}"):
        parse_address(text)


def test_several_addresses_keep_their_order() -> None:
    addresses = (Address("b", 11211), Address("a", 5), Address("/c", 0))
    assert parse_addresses(["b", ("a", 5), "unix:/c"]) == addresses
    assert parse_addresses(("b", "a:5", "/c")) == addresses
    assert parse_addresses(iter(addresses)) == addresses


@pytest.mark.parametrize(
    ("addresses", "error", "message"),
    [
        ("localhost:11211", TypeError, "addresses must be a list .*, not 'localhost:11211'"),
        (b"localhost", TypeError, "addresses must be a list .*, not b'localhost'"),
        (None, TypeError, "addresses must be a list .*, not None"),
        (5, TypeError, "addresses must be a list .*, not 5"),
        (("localhost", 11211), TypeError, "address must be .*, not 11211"),
        ([], ValueError, "at least one server"),
        (["a", "a:11211"], ValueError, "addresses name 'a:11211' twice"),
        (["b", "/a", "c", "unix:/a"], ValueError, "addresses name '/a' twice"),
        (["a", "b:x"], ValueError, "'b:x' has the port 'x'"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(
    addresses: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        parse_addresses(addresses)


def test_addresses_are_values() -> None:
    assert {Address("a", 1), Address("a", 1), Address("a", 2)} == {Address("a", 1), Address("a", 2)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Address("a", 1).port = 2  # type: ignore[misc]

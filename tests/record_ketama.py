"""Records where libmemcached has keys, for tests/unit/test_ring_weights.py.

    python -m tests.record_ketama > tests/unit/ketama.json

Needs libmemcached: pylibmc's wheel (the test extra) brings it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from hashlib import sha256

from tests.libmemcached import Libmemcached, library

KEYS = [f"key:{number}".encode() for number in range(10_000)]
SHOWN = 100
DIGITS = "0123456789abcdefghijklmnopqrst"

PATTERNS = [
    "10.0.1.{}:11212",
    "10.0.1.{}:11211",
    "[fd00::{}]:11212",
    "[fd00::{}]:11211",
    "/run/memcached/{}.sock",
]
HEAVIEST = [1, 3, 10, 100, 1000]


def fleets() -> Iterator[tuple[list[str], list[int]]]:
    """Servers and their weights."""
    chance = random.Random(2030)
    five = [PATTERNS[0].format(number) for number in range(5)]
    yield five, [1, 2, 3, 4, 5]
    yield five, [1, 1, 1, 1, 1000]  # so light that four have no points
    yield five, [7, 7, 7, 7, 7]
    yield five, [1, 2**16, 2**24 + 1, 2**31 + 129, 2**32 - 1]  # more than a float has bits
    yield five[:2], [80_000_001, 20_000_002]  # by their sum, rounded: 64 MD5s, not 63
    # They share a point, 2519084465, which the first has.
    yield ["cache537:11212", "cache858:11212"], [1, 1]
    yield ["cache858:11212", "cache537:11212"], [1, 1]
    for count in range(1, 31):
        for place in range(2):
            pattern = PATTERNS[(count + 2 * place) % len(PATTERNS)]
            heaviest = HEAVIEST[(count // len(PATTERNS) + count + 3 * place) % len(HEAVIEST)]
            weights = [chance.randint(1, heaviest) for _ in range(count)]
            yield [pattern.format(number) for number in range(count)], weights


def main() -> None:
    """Print the table, a line for each fleet."""
    found = library()
    if found is None:
        sys.exit("there is no libmemcached: pip install pylibmc")
    known = Libmemcached(found)
    lines = []
    for servers, weights in fleets():
        placed = "".join(DIGITS[index] for index in known.placed(servers, weights, KEYS))
        digest = sha256(placed.encode()).hexdigest()[:16]
        entry = {"weights": weights, "placed": placed[:SHOWN], "digest": digest}
        lines.append(json.dumps({"servers": servers, **entry}))
    head = f'{{"libmemcached": "{known.version}", "fleets": ['
    sys.stdout.write(head + "\n" + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()

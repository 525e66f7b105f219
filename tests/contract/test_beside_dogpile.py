"""Random programs on a region of dogpile.cache and on one of ours: the same answers.

Both sides have the same clock, which moves between any two steps, and creators that count their
calls. What differs is left out of the programs, and stands in :data:`DIFFERENCES`, with the
reason; a difference that is in neither place is an error of ours.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("dogpile.cache")

from tests.contract.dogpile_cases import ALIKE, DIFFERENCES, Case
from tests.contract.dogpile_sides import CLOCK, KEYS, Package, Setting, Side, is_even, refuses

PACKAGES = (Package.theirs(), Package.ours())


@pytest.fixture(autouse=True, scope="module")
def _one_clock() -> Iterator[None]:
    time = types.SimpleNamespace(time=CLOCK.wall, sleep=CLOCK.sleep)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("dogpile.cache.region", "dogpile.cache.api", "dogpile.lock"):
            patch.setattr(f"{module}.time", time)
        yield


# -- Programs --------------------------------------------------------------------------

Step = tuple[Any, ...]
BOTH = [[1, 2], ["1", 2]]
SPELLINGS = [([1], {}), ([], {"b": 2, "a": 1}), ([1], {"b": 2}), (["1", "2"], {})]
WRONG = [([], {}), ([1, 2, 3], {}), ([1], {"a": 2}), ([1], {"c": 2})]
HANGING = ["set", "get", "refresh", "invalidate"]


def steps(setting: Setting, kinds: list[bool]) -> st.SearchStrategy[Step]:
    """One step of a program on regions of *setting*, with these *kinds* of invalidation."""
    never = [] if False in kinds else [-1]  # DIFFERENCES: "soft, and for ever"
    key, keys = st.sampled_from(KEYS), st.lists(st.sampled_from(KEYS), max_size=4)
    patience = st.sampled_from([None, None, 0, 0.5, 3, 100, -5])
    lasting = st.sampled_from([None, None, 0, 0.5, 3, 100, -5, *never])
    # DIFFERENCES: "whether to keep a value, where none is kept"
    wanted = st.sampled_from(
        [None, None, is_even, *([refuses] if setting.backend != "null" else [])]
    )
    flag, rarely = st.booleans(), st.sampled_from([False, False, False, True])
    value = st.sampled_from([None, 0, "", "text", [1], {"x": 1}])
    function, lately = st.sampled_from(["plain", "even"]), st.sampled_from(["short", "asked"])
    args = st.sampled_from(BOTH)
    call = st.sampled_from([*[(both, {}) for both in BOTH], *SPELLINGS, *WRONG])
    # DIFFERENCES: "spellings of what hangs on a function"
    spelled = st.sampled_from(SPELLINGS if setting.keywords else [(both, {}) for both in BOTH])
    changing = st.sampled_from([one for one in HANGING if one != "get"])

    def step(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
        return st.tuples(st.just(name), *parts)

    def spread(name: str, *parts: Any) -> st.SearchStrategy[Step]:
        # The call's spelling is drawn as a pair.
        return st.tuples(*parts).map(lambda drawn: (name, *flattened(drawn)))

    def flattened(drawn: Any) -> Iterator[Any]:
        for part in drawn:
            if isinstance(part, tuple):
                yield from part
            else:
                yield part

    return st.one_of(
        step("pass_time", st.sampled_from([0.25, 1.0, 2.75, 50.0])),
        step("get", key, patience, flag),
        step("get_multi", keys, patience, flag),
        step("metadata", key, patience, flag),
        step("set", key, value),
        step("set_multi", st.dictionaries(key, value)),
        step("delete", key),
        step("delete_multi", keys),
        step("invalidate", st.sampled_from(kinds)),
        step("invalidated", st.sampled_from([0.0, 0.3, 3.0])),
        # DIFFERENCES: "the instant of an invalidation"
        step("plant", key, st.sampled_from([0.0625, 2.0625, 10.0625]), st.sampled_from([1, 2])),
        step("get_or_create", key, lasting, wanted, flag, rarely),
        step("nested", st.just("a"), st.just("b"), lasting),
        step("get_or_create_multi", keys, lasting, wanted, rarely),
        spread("call", st.one_of(function, lately), call, rarely),
        spread("hanging", function, st.sampled_from(HANGING), spelled),
        # DIFFERENCES: "get() of a function with a life of its own"
        spread("hanging", lately, changing, spelled),
        step("call_method", args),
        step("hanging_method", st.sampled_from(HANGING), args),
        step("call_many", st.sampled_from(["plain", "short", "even"]), keys, rarely),
        step("hanging_many", st.just("plain"), st.sampled_from(HANGING), keys),
        step("hanging_many", st.just("short"), changing, keys),
        step(
            "hanging_many",
            st.just("even"),
            st.sampled_from(HANGING),
            # DIFFERENCES: "refresh() of what a function leaves out"
            st.lists(st.sampled_from(KEYS[:-1]), max_size=4),
        ),
        step("is_locked", key),
    )


@st.composite
def programs(draw: st.DrawFn) -> tuple[Setting, list[Step]]:
    """How the regions are made, and what is done with them."""
    expiration_time = draw(st.sampled_from([None, 4.0, 0.5]))
    runner = draw(st.booleans())
    mangled, as_json, keywords, wrapped = (draw(st.booleans()) for _ in range(4))
    setting = Setting(
        draw(st.sampled_from(["memory", "memory", "memory_pickle", "null"])),
        expiration_time,
        mangled,
        as_json,
        keywords,
        wrapped,
        runner,
    )
    kinds = [[True]]
    if expiration_time is not None:
        kinds += [[False]] if runner else [[False], [True, False]]
    length = draw(st.integers(1, 40))
    step = steps(setting, draw(st.sampled_from(kinds)))
    return setting, draw(st.lists(step, min_size=length, max_size=length))


@given(programs())
@settings(max_examples=200)
def test_programs_have_the_same_answers(program: tuple[Setting, list[Step]]) -> None:
    setting, todo = program
    sides = [Side(package, setting) for package in PACKAGES]
    for number, (step, *rest) in enumerate(todo):
        CLOCK.advance(rest[0] if step == "pass_time" else 0.125)
        expected, got = (side.do(step, *rest) for side in sides)
        assert got == expected, (number, step, *rest)


# -- Cases -----------------------------------------------------------------------------


def outcome(case: Case, package: Package) -> Any:
    try:
        return case.play(package)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("case", ALIKE, ids=lambda case: case.name)
def test_alike(case: Case) -> None:
    expected, got = (outcome(case, package) for package in PACKAGES)
    assert got == expected


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.name)
def test_known_differences(case: Case) -> None:
    theirs, ours = (outcome(case, package) for package in PACKAGES)
    assert ours == case.ours
    # A release of theirs may have come round to it.
    assert theirs in (case.theirs, case.ours)

"""Runs the Python examples of the README and of the documentation.

Each page is a module, named after its file, so that what it defines can be found by name, as a
backend is. The examples name ``localhost:11211``, as their readers would, so that
is where a server has to be: the one that answers there already, or one that is started for the
examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Document, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.conftest import memcached as memcached  # noqa: PLC0414 - also for the examples
from tiered.cli.demo.server import PrivateMemcached, answers

USUAL_PORT = 11211


@pytest.fixture(scope="session")
def usual_memcached(request: pytest.FixtureRequest) -> Iterator[None]:
    """A memcached on the usual port of this machine."""
    if answers(f"localhost:{USUAL_PORT}"):
        yield
        return
    request.getfixturevalue("memcached")  # fails or skips where there is none to run
    server = PrivateMemcached().start(USUAL_PORT)
    try:
        yield
    finally:
        server.stop()


class Page(Document):
    """A page whose examples are the text of one module."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        module = ModuleType(f"page_{Path(path).stem.replace('-', '_')}")
        sys.modules[module.__name__] = module
        self.namespace = module.__dict__
        self.namespace["installed"] = _installed  # for examples that are skipped without it


def _installed(package: str) -> bool:
    return find_spec(package) is not None


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/**/*.md"],
    fixtures=["usual_memcached"],
    document_types={".md": Page},
).pytest()

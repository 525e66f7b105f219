"""Objects that live in processes of their own, and are called over a pipe."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Actor"]

_PATIENCE = 120.0


class Actor:
    """What *make* gives with *arguments*, in a new process. Both must be importable.

    The process ends with this one, or when it is closed or killed.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_act, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call it, and wait for what it returns."""
        self.post(method, *arguments)
        return self.answer()

    def post(self, method: str, *arguments: Any) -> None:
        """Call it; what it returns is to be fetched by :meth:`answer`, in the same order."""
        self._pipe.send((method, arguments))

    def answer(self) -> Any:
        """What the oldest call returned.

        Raises:
            RuntimeError: it raised.
            TimeoutError: nothing came for two minutes.
        """
        if not self._pipe.poll(_PATIENCE):
            raise TimeoutError(f"process {self._process.pid} did not answer in {_PATIENCE:g} s")
        failed, answer = self._pipe.recv()
        if failed:
            raise RuntimeError(answer)
        return answer

    def kill(self) -> None:
        """SIGKILL; it is dead on return."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def close(self) -> None:
        """End it, without asking what is under way there; may be called for a dead one."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _act(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    acting = make(*arguments)
    while True:
        try:
            method, given = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((False, getattr(acting, method)(*given)))
        except Exception as error:  # is raised where the call came from
            pipe.send((True, f"{type(acting).__name__}.{method}: {error!r}"))

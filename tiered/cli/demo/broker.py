"""A broker for the workers of the demo, which is to be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from multiprocessing.connection import wait
from typing import Final, Self

from tiered.cli.demo.server import die_with_parent

__all__ = ["BrokerProcess"]

_START_TIMEOUT: Final = 20.0


class BrokerProcess:
    """``python -m tiered coherence broker``, gone when its owner is gone.

    Args:
        secret: the bus key.

    Attributes:
        address: where it is; no file, so that none is left.
    """

    def __init__(self, secret: str) -> None:
        self.address = f"ipc://@tiered-demo-{secrets.token_hex(8)}"
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, detection: float) -> Self:
        """Begin; :meth:`await_ready` before anybody looks for it."""
        command = [sys.executable, "-m", "tiered", "coherence", "broker"]
        self._process = subprocess.Popen(
            [*command, "--bind", self.address, "--detection", str(detection)],
            env={**os.environ, "TIERED_BUS_KEY": self._secret},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the owner, who then stops us
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of a loaded function
        )
        return self

    def await_ready(self) -> None:
        """Raises ``OSError`` if it does not start."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        until = time.monotonic() + _START_TIMEOUT
        said = b""
        while b"ready" not in said:
            left = max(0.0, until - time.monotonic())
            if not wait([process.stdout.fileno()], left):
                raise OSError(f"the broker did not start within {_START_TIMEOUT:g} s")
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                raise OSError(f"the broker ended at once, with status {process.wait()}")
            said += part

    def kill(self) -> None:
        """End it without a word to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it; may be called twice, and after :meth:`kill`."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.stop()

"""A memcached of one's own: on a free port, gone when its owner is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from tiered.routing.addresses import Address, parse_address

__all__ = ["PrivateMemcached", "answers", "die_with_parent"]

_PR_SET_PDEATHSIG: Final = 1
_START_TIMEOUT: Final = 10.0


class PrivateMemcached:
    """Runs the installed ``memcached`` on a free loopback port; a context manager.

    However the owning process ends, the server ends with it: at the end of the block,
    or, if there is none any more (``kill -9``), by the kernel's parent-death signal.

    Args:
        memory: megabytes for items.
        options: further options for the server's command line.

    Raises:
        OSError: it is not installed, or does not start.
    """

    def __init__(self, *, memory: int = 256, options: tuple[str, ...] = ()) -> None:
        self._memory = memory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @staticmethod
    def installed() -> bool:
        """Whether there is a ``memcached`` to run."""
        return _binary() is not None

    @property
    def address(self) -> str:
        """``host:port`` of the running server."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, port: int = 0) -> Self:
        """Run it, on *port* or on one that is free."""
        binary = _binary()
        if binary is None:
            raise FileNotFoundError("memcached is not installed")
        folder = Path(tempfile.mkdtemp(prefix="tiered-memcached-"))
        folder.chmod(0o1777)  # the server writes here as another user
        noted = folder / "port"
        command = [binary, "-l", "127.0.0.1", "-p", str(port or -1), "-U", "0"]
        command += ["-m", str(self._memory), *self._options]
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "MEMCACHED_PORT_FILENAME": str(noted)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops us
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of a loaded function
                **_unprivileged(),
            )
            self.port = self._await_port(noted)
        except BaseException:
            self.stop()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self

    def _await_port(self, noted: Path) -> int:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise OSError(f"memcached ended at once, with status {self._process.returncode}")
            # The server renames the finished file into place.
            with contextlib.suppress(FileNotFoundError):
                for line in noted.read_text().splitlines():
                    if line.startswith("TCP INET:"):
                        return int(line.rpartition(":")[2])
            time.sleep(0.01)
        raise OSError(f"memcached did not start within {_START_TIMEOUT} s")

    def stop(self) -> None:
        """End it; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def answers(address: str, timeout: float = 0.5) -> bool:
    """Whether a memcached answers at *address*: ``host:port``, or the path of a socket."""
    try:
        with _connected(parse_address(address), timeout) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(64).startswith(b"VERSION")
    except (OSError, ValueError):
        return False


def _connected(address: Address, timeout: float) -> socket.socket:
    if not address.is_unix:
        return socket.create_connection((address.host, address.port), timeout)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(address.host)
    except OSError:
        connection.close()
        raise
    return connection


def _binary() -> str | None:
    return shutil.which("memcached", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")


def _unprivileged() -> dict[str, Any]:
    """memcached refuses to run as root, and drops the death signal if it changes user itself."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


die_with_parent: Final = partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGTERM)
"""To be called in a child: SIGTERM will come when its parent is gone.

Not a function of Python: between fork and exec, a tool that traces Python would wait for a lock
that a thread had when it was forked.
"""

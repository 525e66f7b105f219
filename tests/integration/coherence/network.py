"""Network namespaces whose links can be cut, silently, as a broken switch does it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self

__all__ = ["BUS", "STORE", "Network", "NoNamespaces", "die_with_parent", "memcached_on"]

BUS, STORE = "bus", "store"
_PREFIXES: Final = {BUS: "10.77.0", STORE: "10.78.0"}
_PR_SET_PDEATHSIG: Final = 1


class NoNamespaces(Exception):
    """There are none to be had here; says why."""


die_with_parent: Final = partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
"""The kernel ends this process when its parent has ended, however that was.

Not a function of Python: what measures coverage would run between fork and exec.
"""


class Network:
    """Some hosts, each with one link to the bus and one to the store; a context manager.

    A namespace lives as long as a process in it, so nothing is left behind: the sleepers that
    hold them end with this process. The links meet in two bridges, in a namespace that is also
    the store's host.

    Args:
        hosts: how many.

    Raises:
        NoNamespaces: no ``ip``, no right to make them, or no bridges in this kernel.
    """

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._holders: list[subprocess.Popen[bytes]] = []

    def inside(self, host: int) -> list[str]:
        """What to put in front of a command that is to run on *host*; -1 is the store's."""
        return [*self._entering(host), "--net", "--"]

    def address(self, host: int, network: str = BUS) -> str:
        """Of *host*; -1 is the store's."""
        return f"{_PREFIXES[network]}.{host + 2}"

    def cut(self, host: int, network: str) -> None:
        """No packet passes any more, and nobody is told."""
        self._ip(-1, f"link set {network}{host} nomaster")

    def heal(self, host: int, network: str) -> None:
        """They pass again."""
        self._ip(-1, f"link set {network}{host} master {network}")

    def await_port(self, host: int, address: str, port: int) -> None:
        """Wait until somebody listens there."""
        deadline = time.monotonic() + 10
        command = [*self.inside(host), "ss", "-Hltn", f"src {address}:{port}"]
        while not subprocess.run(command, capture_output=True, check=True).stdout:
            assert time.monotonic() < deadline, f"nobody listens on {address}:{port}"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()
        self._holders.clear()

    def _entering(self, host: int) -> list[str]:
        command = ["nsenter", "--target", str(self._holders[host + 1].pid)]
        return command if os.geteuid() == 0 else [*command, "--user", "--preserve-credentials"]

    def _make(self) -> None:
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._hold(["unshare", "--net", *rights])
        for _ in range(self._hosts):
            # In one user namespace, or no link could be passed from one to another.
            into = [] if os.geteuid() == 0 else [*self._entering(-1), "--"]
            self._hold([*into, "unshare", "--net"])
        lines = ["link set lo up"]
        for network in _PREFIXES:
            lines += [
                # Spanning trees would keep a healed link closed for half a minute.
                f"link add {network} type bridge stp_state 0 forward_delay 0",
                f"addr add {self.address(-1, network)}/24 dev {network}",
                f"link set {network} up",
            ]
            for host in range(self._hosts):
                pid = self._holders[host + 1].pid
                lines += [
                    f"link add {network}{host} type veth peer name {network} netns {pid}",
                    f"link set {network}{host} master {network} up",
                ]
        self._ip(-1, *lines)
        for host in range(self._hosts):
            lines = ["link set lo up"]
            for network in _PREFIXES:
                lines.append(f"addr add {self.address(host, network)}/24 dev {network}")
                lines.append(f"link set {network} up")
            self._ip(host, *lines)

    def _hold(self, command: list[str]) -> None:
        ours = os.readlink("/proc/self/ns/net")
        try:
            holder = subprocess.Popen(
                [*command, "sleep", "infinity"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                preexec_fn=die_with_parent,
            )
        except FileNotFoundError as error:
            raise NoNamespaces(str(error)) from None
        self._holders.append(holder)
        assert holder.stderr is not None
        deadline = time.monotonic() + 5
        with holder.stderr:
            while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
                if holder.poll() is not None:
                    raise NoNamespaces(holder.stderr.read().decode().strip())
                assert time.monotonic() < deadline, "no namespace after 5 s"
                time.sleep(0.002)
        assert os.readlink(f"/proc/{holder.pid}/ns/net") != ours

    def _ip(self, host: int, *lines: str) -> None:
        try:
            subprocess.run(
                [*self.inside(host), "ip", "-batch", "-"],
                input="\n".join(lines),
                text=True,
                capture_output=True,
                check=True,
                timeout=10,
            )
        except FileNotFoundError as error:
            raise NoNamespaces(str(error)) from None
        except subprocess.CalledProcessError as error:
            raise NoNamespaces(error.stderr.strip()) from None


@contextmanager
def memcached_on(network: Network) -> Iterator[str]:
    """A server on the store's host; its address."""
    address, port = network.address(-1, STORE), 11211
    # As root, which is nobody special in a user namespace: a change of the user would lose the
    # signal that ends it with us.
    command = ["memcached", "-l", address, "-p", str(port), "-U", "0", "-u", "root"]
    with subprocess.Popen(
        [*network.inside(-1), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    ) as server:
        try:
            network.await_port(-1, address, port)
            yield f"{address}:{port}"
        finally:
            server.kill()

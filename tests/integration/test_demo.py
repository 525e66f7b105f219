"""The demo run as a program: its servers, its signals at any moment, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.demos import Demo, alive, check, demos, until
from tests.integration.peers import Raw
from tiered.cli.demo import command, server
from tiered.cli.demo.server import PrivateMemcached, answers
from tiered.cli.main import main


@pytest.fixture
def demo(memcached: PrivateMemcached) -> Iterator[Callable[..., Demo]]:
    """Starts demos; none of them outlives the test."""
    with demos() as start:
        yield start


def test_with_a_private_memcached_each_key_is_computed_once(demo: Callable[..., Demo]) -> None:
    running = demo("--seconds", "1")
    address = running.server()
    status, output, errors = running.end()
    assert status == 0, errors
    data = json.loads(output)
    check(data)
    assert data["computations"]["repeated"] == 0
    assert data["hits"]["L1"] > 0
    assert data["hits"]["L2"] > 0
    assert 1 <= data["seconds"] < 10
    assert data["shared_tier"] == f"a private memcached at {address}"
    assert not answers(address)


def test_a_memcached_that_is_given_is_shared_and_goes_on(
    demo: Callable[..., Demo], memcached: PrivateMemcached
) -> None:
    with Raw(memcached.address) as raw:
        before = raw.figure("cmd_set")
        status, output, errors = demo("--seconds", "1", "--memcached", memcached.address).end()
        assert status == 0, errors
        data = json.loads(output)
        check(data)
        assert data["computations"]["repeated"] == 0
        assert data["hits"]["L2"] > 0
        assert data["shared_tier"] == f"memcached at {memcached.address}"
        assert raw.figure("cmd_set") - before >= data["computations"]["total"]
    # Another run does not read what this one has left there.
    status, output, errors = demo("--seconds", "0.2", "--memcached", memcached.address).end()
    assert status == 0, errors
    again = json.loads(output)
    check(again)
    assert again["computations"]["total"] == again["keys"]["asked"]


def test_without_a_memcached_each_worker_has_its_own(demo: Callable[..., Demo]) -> None:
    status, output, errors = demo("--seconds", "1", "--no-memcached").end()
    assert status == 0, errors
    data = json.loads(output)
    check(data)
    assert data["hits"]["L1"] > 0
    assert data["hits"]["L2"] == data["answers"]["waited"]["count"] == 0
    assert data["computations"]["repeated"] > 0
    assert "none (--no-memcached)" in data["shared_tier"]


@pytest.mark.parametrize("options", [[], ["--no-memcached"]])
def test_workers_stay_in_step_when_the_broker_is_killed(
    demo: Callable[..., Demo], options: list[str]
) -> None:
    status, output, errors = demo("--seconds", "6", *options).end()
    assert status == 0, errors
    data = json.loads(output)
    check(data)
    coherence = data["coherence"]
    assert coherence["broker_killed"]
    assert coherence["takeover"] > 0
    assert coherence["changes"] > 0
    latency = coherence["latency"]
    assert latency["count"] > 0
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert coherence["confirmed"] > 0


INTERRUPTIONS = [
    (signal.SIGINT, "process"),
    (signal.SIGINT, "group"),  # as a terminal sends it: to the workers too
    (signal.SIGTERM, "process"),
    (signal.SIGHUP, "group"),
]


@pytest.mark.parametrize("moment", ["before a worker runs", "while workers run"])
@pytest.mark.parametrize(("kind", "whom"), INTERRUPTIONS)
def test_a_signal_at_any_moment_ends_it_cleanly(
    demo: Callable[..., Demo], moment: str, kind: signal.Signals, whom: str
) -> None:
    running = demo("--seconds", "60")
    address = running.server()
    if moment == "while workers run":
        running.await_words(b"requests")
    family = running.family()
    pid = running.process.pid
    os.killpg(pid, kind) if whom == "group" else os.kill(pid, kind)
    status, output, errors = running.end()
    assert status == 130, errors
    assert b"Traceback" not in errors
    assert b"interrupted" in errors
    if moment == "while workers run":
        check(json.loads(output))
    assert not answers(address)
    assert until(lambda: not any(alive(one) for one in family))


@pytest.mark.parametrize("moment", ["before a worker runs", "while workers run"])
def test_a_kill_that_cannot_be_caught_leaves_nothing_behind(
    demo: Callable[..., Demo], moment: str
) -> None:
    running = demo("--seconds", "60")
    address = running.server()
    if moment == "while workers run":
        running.await_words(b"requests")
    family = running.family()
    assert family
    running.process.kill()
    assert running.end()[0] == -signal.SIGKILL
    assert until(lambda: not answers(address))
    assert until(lambda: not any(alive(one) for one in family))


def test_a_worker_that_is_killed_is_noticed(demo: Callable[..., Demo]) -> None:
    running = demo("--seconds", "6", "--no-memcached")  # not over before one is killed
    running.await_words(b"requests")
    workers = [
        pid
        for pid in running.family()
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    status, _, errors = running.end()
    # What is measured then is not what was asked for.
    assert status == 1, errors


def test_workers_that_fail_are_a_failure_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_modules", lambda: ["/there/is/no/such/module.py"])
    assert main(["demo", "--workers", "1", "--seconds", "1", "--no-memcached"]) == 1
    assert "/there/is/no/such/module.py" in capfd.readouterr().err


# -- The private server ------------------------------------------------------------------


def test_a_server_that_cannot_have_its_port_says_so(memcached: PrivateMemcached) -> None:
    unlucky = PrivateMemcached()
    with pytest.raises(OSError, match="memcached ended at once, with status"):
        unlucky.start(memcached.port)
    unlucky.stop()


def test_a_server_that_starts_too_slowly_is_given_up_and_stopped(
    memcached: PrivateMemcached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_START_TIMEOUT", 0.0)
    started: list[int] = []
    popen = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", noted)
    with pytest.raises(OSError, match="did not start within"):
        PrivateMemcached().start()
    assert len(started) == 1
    assert not alive(started[0])


def test_a_server_that_does_not_stop_is_killed(memcached: PrivateMemcached) -> None:
    with PrivateMemcached() as stubborn:
        pid = stubborn.pid
        os.kill(pid, signal.SIGSTOP)  # it will not notice that it should end
        stubborn.stop()
    assert not alive(pid)


def test_a_server_is_started_on_the_port_that_is_asked_for(memcached: PrivateMemcached) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one = PrivateMemcached(memory=8, options=("-c", "50"))
    try:
        assert one.start(port) is one
        assert one.address == f"127.0.0.1:{port}"
        assert answers(one.address, timeout=20)
        with Raw(one.address) as raw:
            assert raw.figure("limit_maxbytes") == 8 * 1024 * 1024
            assert raw.figure("max_connections") == 50
    finally:
        one.stop()
        one.stop()
    assert not answers(one.address)


def test_a_server_is_nobody_only_where_it_would_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server._unprivileged() == {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert server._unprivileged()["user"] > 0


def test_only_a_memcached_answers(memcached: PrivateMemcached) -> None:
    assert answers(memcached.address, timeout=20)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not answers(f"127.0.0.1:{port}", timeout=0.05)
    assert not answers(f"127.0.0.1:{port}")
    for nonsense in ("", "host:port", "127.0.0.1:99999", "/there/is/no.sock"):
        assert not answers(nonsense)


def test_a_memcached_may_answer_at_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(64) == b"version\r\n"
                connection.sendall(b"VERSION 1\r\n")

        answering = threading.Thread(target=serve)
        answering.start()
        assert answers(path, timeout=20)
        answering.join(20)

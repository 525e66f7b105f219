"""Interpreters that exit while something is queued, running, or open."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_queued_work_does_not_hold_up_the_exit() -> None:
    done = run(
        """
        import threading
        from tiered import InprocCacheClient, cached, CacheMissError

        never = threading.Event()

        @cached(InprocCacheClient(100), 60)
        def f(x):
            never.wait()

        for x in range(100):
            try:
                f.bg().lazy(x)
            except CacheMissError:
                pass
        print("leaving")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


def test_importing_touches_no_foreign_package() -> None:
    done = run(
        """
        import sys
        import tiered

        foreign = {"pymemcache", "cachetools", "zmq", "dns", "numpy", "pytest", "hypothesis"}
        print(sorted(foreign & set(sys.modules)))
        tiered.InprocCacheClient
        print(sorted((foreign - {"cachetools"}) & set(sys.modules)))
        """
    )
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")

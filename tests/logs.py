"""What has been logged, apart from what threads that other tests have left log meanwhile."""

from __future__ import annotations

import logging
import threading

import pytest

__all__ = ["of_this_thread"]


def of_this_thread(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of who asks."""
    ours = threading.get_ident()
    return [record for record in caplog.records if record.thread == ours]

"""A peer on a real socket that answers what it was told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self


class ScriptedPeer:
    """Accepts connections and answers each request with what *answer* makes of it.

    ``None`` closes the connection. Every connection is remembered in :attr:`accepted`.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.accepted = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while request := connection.recv(65536):
                answer = self._answer(request)
                if answer is None:
                    break
                connection.sendall(answer)
        except OSError:
            return
        finally:
            connection.close()

"""Who may take part: CURVE, the key of the bus, or nobody but this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zmq
from zmq.utils import z85

from tiered.coherence.zeromq.addresses import BusAddress

__all__ = ["CurveKeys", "Gatekeeper", "checked_keys", "require_protection"]

_Z85: Final = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_ZAP_VERSION: Final = b"1.0"
_ZAP_FRAMES: Final = 7
DOMAIN: Final = b"tiered.coherence"


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """The CURVE keys of a bus, one pair for all who take part: it encrypts, and keeps others out.

    Args:
        public, secret: as ``python -m tiered coherence keys`` or any ZeroMQ tool makes
            them: 40 characters each.

    Raises:
        TypeError: one is no text.
        ValueError: one is no key, or they are no pair.
    """

    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("public", "secret"):
            key = getattr(self, name)
            # The secret itself stays out of the message: messages end up in logs.
            if not isinstance(key, str):
                raise TypeError(f"{name} must be text, not {type(key).__name__}")
            if not _Z85.fullmatch(key):
                raise ValueError(f"{name} must be a key of 40 characters (Z85)")
        try:
            public = zmq.curve_public(self.secret.encode()).decode()
        except zmq.ZMQError:
            raise ValueError("secret must be a key of 40 characters (Z85)") from None
        if public != self.public:
            raise ValueError("public and secret are no pair; nobody could connect with them")

    @classmethod
    def generate(cls) -> CurveKeys:
        """A new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    def serve(self, socket: zmq.Socket[bytes]) -> None:
        """Have *socket*, not bound yet, take only those whom a :class:`Gatekeeper` lets in."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self.secret.encode())
        socket.set(zmq.ZAP_DOMAIN, DOMAIN)

    def use(self, socket: zmq.Socket[bytes]) -> None:
        """Have *socket*, not connected yet, talk only to who has these keys."""
        socket.set(zmq.CURVE_SERVERKEY, self.public.encode())
        socket.set(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, self.secret.encode())


class Gatekeeper:
    """Tells libzmq whom to let in: who has proven to have the secret of *keys*.

    Of one context: everything with CURVE that is bound there asks it. To be made before that
    is bound, as nobody would be asked then, and all let in.

    Attributes:
        socket: to be polled; :meth:`answer` when it is readable.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys) -> None:
        self._admitted = z85.decode(keys.public.encode())
        self.socket = context.socket(zmq.REP)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> int:
        """Answer all who have asked; how many were turned away."""
        refused = 0
        while True:
            try:
                asked = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return refused
            admitted = self._admits(asked)
            refused += not admitted
            status, text = (b"200", b"OK") if admitted else (b"400", b"not of this bus")
            request = asked[1] if len(asked) > 1 else b""
            self.socket.send_multipart([_ZAP_VERSION, request, status, text, b"", b""])

    def _admits(self, asked: Sequence[bytes]) -> bool:
        if len(asked) != _ZAP_FRAMES or asked[0] != _ZAP_VERSION:
            return False
        domain, mechanism, proven = asked[2], asked[5], asked[6]
        return domain == DOMAIN and mechanism == b"CURVE" and proven == self._admitted


def checked_keys(key: Any) -> Sequence[str | bytes]:
    """*key* as a list: of none, one or several secrets.

    Raises:
        TypeError: it is neither a secret nor a list of them.
    """
    if key is None:
        return ()
    if isinstance(key, (str, bytes)):
        return (key,)
    if not isinstance(key, (list, tuple)) or not key:
        raise TypeError(f"key must be str or bytes (or a list of them), not {type(key).__name__}")
    return tuple(key)


def require_protection(
    addresses: Iterable[BusAddress], keys: Sequence[str | bytes], curve: CurveKeys | None
) -> None:
    """Refuse to talk to a network without any means to tell friend from foe.

    Raises:
        TypeError: *curve* is no :class:`CurveKeys`.
        ValueError: an address can be reached by others, and there is neither key nor curve.
    """
    if curve is not None and not isinstance(curve, CurveKeys):
        raise TypeError(f"curve must be CurveKeys(public, secret), not {type(curve).__name__}")
    if keys or curve is not None:
        return
    for address in addresses:
        if not address.is_private:
            raise ValueError(
                f"address {str(address)!r} can be reached by others, who could then delete what "
                f"is cached or keep it from being deleted; give key=... (a secret that all "
                f"processes of the bus share) or curve=CurveKeys(...)"
            )

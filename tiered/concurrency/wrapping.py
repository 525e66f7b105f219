"""Our futures for libraries that insist on futures of a class of their own."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from typing import Any

__all__ = ["makeFutureWrapper"]


def makeFutureWrapper(base: type[Any]) -> type[Any]:  # noqa: N802 - chorde's name
    """A class of *base* futures that each follow a ``concurrent.futures.Future``.

    ::

        Wrapper = makeFutureWrapper(asyncio.Future)
        value = await Wrapper(f.future()(x))

    asyncio (``asyncio.wrap_future``), Tornado and Twisted take our futures as they are; this
    is for libraries that check the class. An instance is a *base* made with the arguments
    after the first. If *base* can be given a result, it is, when there is one: in its own
    event loop's thread if it has one (``get_loop``), else in the thread that completed the
    future. A *base* that has no ``set_result`` is an interface, and its public methods are
    those of the future that is followed.

    Threads: as *base*.

    Raises:
        TypeError: *base* is no class.
    """
    if not isinstance(base, type):
        raise TypeError(f"base must be a class of futures, not {base!r}")
    if hasattr(base, "set_result") and hasattr(base, "set_exception"):
        return type(f"Following{base.__name__}", (base,), {"__init__": _follow(base)})
    names = {name for name in dir(base) if not name.startswith("_")} & set(dir(Future))
    body: dict[str, Any] = {name: _delegating(name) for name in names}
    return type(f"Following{base.__name__}", (base,), {**body, "__init__": _hold(base)})


def _follow(base: type[Any]) -> Any:
    def init(self: Any, future: Future[Any], *args: Any, **kwargs: Any) -> None:
        base.__init__(self, *args, **kwargs)
        loop = self.get_loop() if hasattr(self, "get_loop") else None

        def settle(done: Future[Any]) -> None:
            if loop is None:
                _settle(self, done)
                return
            try:
                loop.call_soon_threadsafe(_settle, self, done)
            except RuntimeError:
                pass  # the loop is closed: nobody waits there any more

        future.add_done_callback(settle)

    return init


def _settle(follower: Any, done: Future[Any]) -> None:
    if follower.done():  # cancelled, by who waits for it
        return
    try:
        error = done.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is None:
        follower.set_result(done.result())
    elif isinstance(error, CancelledError):
        follower.cancel()
    else:
        follower.set_exception(error)


def _hold(base: type[Any]) -> Any:
    def init(self: Any, future: Future[Any], *args: Any, **kwargs: Any) -> None:
        self.__dict__["_followed"] = future
        base.__init__(self, *args, **kwargs)

    return init


def _delegating(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._followed, name)(*args, **kwargs)

    method.__name__ = name
    return method

# An awaitable that is done: what a hit of a coroutine function returns.

# The words that CPython has for the same mistakes.
cdef const char* REUSED = "cannot reuse already awaited coroutine"
cdef const char* TOO_EARLY = "can't send non-None value to a just-started coroutine"


@cython.freelist(16)
@cython.final
cdef class Ready:
    """A coroutine that has returned *value* already, and suspends nobody who awaits it.

    A coroutine in all that event loops ask for (``asyncio.run``, tasks, ``gather``), without
    the frame of one. Like a coroutine, it can be awaited once.
    """

    cdef object value
    cdef bint spent

    cdef object take(self):
        if self.spent:
            raise RuntimeError(REUSED.decode())
        self.spent = True
        value, self.value = self.value, None
        return value

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration(self.take())

    def send(self, value):
        """As of a coroutine: ends it, with its value in the ``StopIteration``."""
        if value is not None and not self.spent:
            raise TypeError(TOO_EARLY.decode())
        raise StopIteration(self.take())

    def throw(self, kind, error=None, trace=None):
        """As of a coroutine that has not started: raises what is thrown."""
        self.take()
        if error is None:
            error = kind() if isinstance(kind, type) else kind
        elif not isinstance(error, BaseException):
            error = kind(error)
        raise error if trace is None else error.with_traceback(trace)

    def close(self):
        """As of a coroutine: nothing can be awaited any more."""
        self.spent = True
        self.value = None


cdef Ready ready(object value):
    cdef Ready made = Ready.__new__(Ready)
    made.value = value
    return made


cdef PySendResult send_ready(PyObject* self, PyObject* sent, PyObject** result) noexcept:
    """What ``await`` asks for: the value, with no ``StopIteration`` around it."""
    cdef Ready awaited = <Ready>self
    result[0] = NULL
    if awaited.spent:
        PyErr_SetString(RuntimeError, REUSED)
        return PYGEN_ERROR
    if sent != <PyObject*>None:
        PyErr_SetString(TypeError, TOO_EARLY)
        return PYGEN_ERROR
    awaited.spent = True
    Py_INCREF(awaited.value)
    result[0] = <PyObject*>awaited.value
    awaited.value = None
    return PYGEN_RETURN


(<TypeSlots*>Ready).tp_as_async.am_send = send_ready

# What a call of a cached coroutine function returns.

cdef extern from "Python.h":
    PySendResult PyIter_Send(PyObject*, PyObject*, PyObject**) except PYGEN_ERROR
    int PyErr_WarnFormat(object, Py_ssize_t, const char*, ...) except -1


@cython.freelist(16)
@cython.final
cdef class CachedCall:
    """A call that looks into the cache when it is awaited, and suspends nobody for a hit.

    A coroutine in all that event loops ask for (``asyncio.run``, tasks, ``gather``), but a hit
    makes no frame of one. Like a coroutine it does nothing before it is awaited, and can be
    awaited once. What is not a hit is left to the coroutine that settles it.
    """

    cdef Door door
    cdef tuple args          # those given by position, then those given by name
    cdef Py_ssize_t given    # how many by position
    cdef tuple keywords      # the names of the others, or None
    cdef object settling     # the coroutine that has taken over, or None
    cdef bint started
    cdef object __weakref__

    def __dealloc__(self):
        if not self.started and self.door is not None:
            PyErr_WarnFormat(
                RuntimeWarning, 1, "coroutine '%S' was never awaited", <PyObject*>self.__qualname__
            )

    @property
    def __name__(self):
        return self.door.__name__

    @property
    def __qualname__(self):
        return self.door.__qualname__

    def __repr__(self):
        return f"<cached call of {self.__qualname__}>"

    cdef int start(self) except -1:
        if self.started:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self.started = True
        return 0

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """As of a coroutine."""
        cdef PyObject* result
        if send_call(<PyObject*>self, <PyObject*>value, &result) == PYGEN_RETURN:
            raise StopIteration(owned(result))
        return owned(result)

    def throw(self, *thrown):
        """As of a coroutine."""
        if self.settling is not None:
            return self.settling.throw(*thrown)
        self.start()
        # What is thrown may be spelt in three ways, which only a coroutine knows to read.
        self.settling = self.settle()
        return self.settling.throw(*thrown)

    def close(self):
        """As of a coroutine."""
        self.started = True
        if self.settling is not None:
            self.settling.close()

    cdef object settle(self):
        """The coroutine for what is not a hit."""
        cdef PyObject** items = items_of(<PyObject*>self.args)
        return self.door.settle(
            tuple_of(items, self.given), keywords_of(items + self.given, self.names())
        )

    cdef inline PyObject* names(self) noexcept:
        return NULL if self.keywords is None else <PyObject*>self.keywords


cdef PySendResult send_call(PyObject* self, PyObject* sent, PyObject** result) except PYGEN_ERROR:
    """What ``await`` asks for; a value comes back without a ``StopIteration`` around it."""
    cdef CachedCall call = <CachedCall>self
    result[0] = NULL
    if call.settling is None:
        if sent != <PyObject*>None and not call.started:
            raise TypeError("can't send non-None value to a just-started coroutine")
        call.start()
        result[0] = call.door.look(items_of(<PyObject*>call.args), call.given, call.names())
        if result[0] != NULL:
            return PYGEN_RETURN
        call.settling = call.settle()
    return PyIter_Send(<PyObject*>call.settling, sent, result)


(<TypeSlots*>CachedCall).tp_as_async.am_send = send_call


cdef object call_later(Door door, PyObject** args, Py_ssize_t given, PyObject* keywords):
    """The call, not yet begun. A wrong one raises now, as that of any coroutine function."""
    cdef CachedCall call
    cdef Py_ssize_t count = given
    if not door.fits(args, given, keywords):
        PyObject_Vectorcall(door.check, args, given, keywords)
    call = CachedCall.__new__(CachedCall)
    if keywords != NULL:
        call.keywords = <tuple>keywords
        count += PyTuple_GET_SIZE(<object>keywords)
    call.args = tuple_of(args, count)
    call.given = given
    call.door = door
    return call

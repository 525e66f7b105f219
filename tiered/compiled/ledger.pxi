# What a private tier holds, by the names that keys have on a bus.

from cpython.dict cimport PyDict_Copy, PyDict_DelItem, PyDict_GetItemWithError, PyDict_Size

cdef extern from "Python.h":
    PyObject* PyDict_SetDefault(dict, object, object) except NULL


cdef class Held:
    """One key. See ``tiered.coherence.ledger``, which has the twin."""

    cdef public object key
    cdef public object version
    cdef public object deadline
    cdef public object heard
    cdef public Py_ssize_t uses
    cdef public unsigned long long entered

    def __init__(self, key):
        self.key = key

    @property
    def suspect(self):
        """Whether the copy must be confirmed before it is used."""
        return self.deadline is not None

    def copied(self, version):
        """There is a new copy, of *version*."""
        self.version = version
        self.deadline = None


cdef class Records:
    """Records by name. See ``tiered.coherence.ledger``, which has the twin.

    Names are bytes, so that no Python code runs when one is looked up.
    """

    cdef dict _held
    cdef readonly object get
    cdef public Py_ssize_t limit

    def __init__(self):
        self._held = {}
        self.get = self._held.get

    def enter(self, bytes name not None, key):
        """The record of *key*, which somebody is about to use."""
        cdef PyObject* found = PyDict_GetItemWithError(self._held, name)
        cdef Held held
        if found == NULL:
            # To make one may run Python code, which may have made another one.
            held = Held(key)
            found = PyDict_SetDefault(self._held, name, held)
        held = <Held>found
        held.uses += 1
        held.entered += 1
        if PyDict_Size(self._held) > self.limit:
            self.crowded()
        return held

    def crowded(self):
        """There are more than the limit."""

    def leave(self, Held held not None):
        """*held* is no longer used."""
        held.uses -= 1

    def forget(self, list idle):
        """Drop ``(name, record, entered)`` where nobody has been there since."""
        cdef Held held
        cdef unsigned long long entered
        for name, one, count in idle:
            held, entered = one, count
            if (
                held.uses == 0
                and held.entered == entered
                and PyDict_GetItemWithError(self._held, name) == <PyObject*>held
            ):
                PyDict_DelItem(self._held, name)

    def all(self):
        """Everything, as it is now."""
        # Copied in one step.
        return list(PyDict_Copy(self._held).items())

    def abandon(self):
        """Nobody uses anything."""
        for held in PyDict_Copy(self._held).values():
            (<Held?>held).uses = 0

    def __len__(self):
        return PyDict_Size(self._held)

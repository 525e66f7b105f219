# What the calls of a region's functions look into.

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object, object) except? NULL
    bint PyFloat_CheckExact(object)
    double PyFloat_AS_DOUBLE(object)
    bint PyLong_CheckExact(object)
    PyObject* PyList_GET_ITEM(object, Py_ssize_t)

cdef object system_wall = time.time


@cython.final
cdef class Near:
    """How to find a region's value in the memory of this process, and what makes it a hit.

    See :class:`tiered.region.near.PythonNear`, its twin.
    """

    cdef object _kind
    cdef long _version
    cdef object _lookup, _wall, _monotonic
    cdef bint _real, _system
    cdef dict _table
    cdef Store _store
    cdef public object mangle
    cdef public object invalidation
    cdef public double patience

    def __cinit__(self, kind, long version, invalidation):
        self._kind = kind
        self._version = version
        self._lookup = None
        self.patience = INFINITY
        self.invalidation = invalidation

    def look_into(self, lookup, table, store, clock):
        """Look into *table*, a dict, or into *store*, a store of this module; else *lookup*."""
        self._table = table if type(table) is dict else None
        self._store = store if isinstance(store, Store) else None
        self._lookup = lookup
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._real = OWN_CLOCK and self._wall is system_wall
        self._system = is_system(self._monotonic)

    @property
    def wall(self):
        """The region's clock, in seconds since 1970."""
        return self._wall

    def hit(self, key, double patience):
        """A value of the backend's *key* that is certainly fresh, if one is near."""
        try:
            cached = self.found(key)
            if cached is None or not self.good(cached, patience):
                return None
            return cached if type(cached) is self._kind else self._kind(cached[0], cached[1])
        except Exception:
            return None  # what is wrong, the general way finds and tells

    cdef object found(self, key):
        """What is near for the backend's *key*; ``None`` for nothing."""
        cdef PyObject* held
        cdef Store store = self._store
        cdef Wanted wanted
        cdef Py_ssize_t number
        cdef double deadline, moment
        if self._table is not None:
            held = PyDict_GetItemWithError(self._table, key)
            return None if held == NULL else <object>held
        if store is not None:
            moment = 0.0 if self._system else self._monotonic()
            want(<PyObject*>key, &wanted)
            number = store.find(&wanted)
            if number < 0:
                return None
            deadline = store.cells[number].deadline
            if not (is_ahead(deadline) if self._system else deadline > moment):
                return None
            store.use(<uint32_t>number)
            return <object>store.cells[number].value
        return None if self._lookup is None else self._lookup(key, None)

    cdef bint good(self, cached, double patience) except -1:
        """Whether *cached* is a value, and fresh; ``False`` also for what Python has to judge."""
        cdef PyObject* item
        cdef double made
        if isinstance(cached, tuple):
            if PyTuple_GET_SIZE(cached) != 2:
                return False
            metadata = <object>PyTuple_GET_ITEM(cached, 1)
        elif type(cached) is list and len(<list>cached) == 2:
            metadata = <object>PyList_GET_ITEM(cached, 1)
        else:
            return False
        if type(metadata) is not dict:
            return False
        item = PyDict_GetItemWithError(metadata, "ct")
        if item == NULL:
            return False
        if PyFloat_CheckExact(<object>item):
            made = PyFloat_AS_DOUBLE(<object>item)
        elif PyLong_CheckExact(<object>item):
            made = <object>item
        else:
            return False
        item = PyDict_GetItemWithError(metadata, "v")
        if item == NULL or not PyLong_CheckExact(<object>item) or <object>item != self._version:
            return False
        told = self.invalidation
        if not made >= <double>told.floor:
            return False
        if not (wall_time() if self._real else <double>self._wall()) - made <= patience:
            return False
        horizon = told.horizon
        if horizon is None:
            return True
        return metadata["rv"] == told.revision and horizon > (
            exact_time() if self._system else self._monotonic()
        )


@cython.final
cdef class Look:
    """The look of one function.

    Args:
        near: of its region.
        patience: seconds; ``None`` for the region's.
        own: gives the patience for each call; or ``None``.
        nothing: what stands for no hit.
    """

    cdef Near _near
    cdef double _patience
    cdef bint _fixed
    cdef object _own, _nothing
    cdef readonly unsigned long long hits

    def __cinit__(self, Near near not None, patience, own, nothing):
        self._near = near
        self._fixed = patience is not None
        self._patience = patience if self._fixed else 0.0
        self._own = own
        self._nothing = nothing

    def find(self, name):
        """The payload under the caller's *name*, or *nothing*."""
        cdef Near near = self._near
        cdef double patience
        try:
            if near.mangle is not None:
                name = near.mangle(name)
            cached = near.found(name)
            if cached is None:
                return self._nothing
            if self._own is not None:
                patience = self._own()
            else:
                patience = self._patience if self._fixed else near.patience
            if not near.good(cached, patience):
                return self._nothing
            self.hits += 1
            return cached[0]
        except Exception:
            return self._nothing  # a mangler that fails, a foreign value: the general way tells

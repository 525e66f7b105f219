# What clients inherit whose nearest tier is a store of this module.

from libc.math cimport INFINITY


cdef class Lease:
    """Until when something is believed without asking again.

    See :class:`tiered.clients.revision.PythonLease`, its twin.
    """

    cdef public double horizon

    def __cinit__(self):
        self.horizon = -INFINITY


cdef class NearReads:
    """``get`` of a client that may find what it looks for in a store of its own.

    See :class:`tiered.clients.near.PythonNearReads`, its twin.
    """

    cdef Store _store
    cdef Lease _lease
    cdef object _now
    cdef bint _system
    cdef bint _coarse  # no horizon has to be met to the moment
    cdef object _get
    cdef readonly unsigned long long near_hits

    def read_near(self, path, now, general):
        """Look into the store of *path* first; for all else call ``general(self, key, ...)``.

        Args:
            path: a ``HotPath``, or ``None``.
            now: the clock, in seconds.
            general: the ``get`` of any client.
        """
        self._store = None if path is None else path.store
        self._lease = None if path is None else path.lease
        self._now = now
        self._system = is_system(now)
        self._coarse = self._system and self._lease is None
        self._get = general

    def get(
        self,
        key,
        default=MISSING,
        *,
        ttl_skip=None,
        promote_callback=None,
        max_tiers=None,
    ):
        """The fresh value of *key*, else *default*.

        Raises:
            CacheMissError: there is none, and no *default* was given.
        """
        cdef PyObject* found = NULL
        if (
            self._store is not None
            and ttl_skip is None
            and promote_callback is None
            and max_tiers is None
        ):
            try:
                found = self.look(key)
            except Exception:
                found = NULL  # what is wrong with the key, the general way finds and tells
            if found != NULL:
                return owned(found)
        return self._get(
            self,
            key,
            default,
            ttl_skip=ttl_skip,
            promote_callback=promote_callback,
            max_tiers=max_tiers,
        )

    cdef PyObject* look(self, object key) except? NULL:
        """A new reference to the fresh value, or ``NULL``."""
        cdef Store store = self._store
        cdef Wanted wanted
        cdef Py_ssize_t number
        cdef double deadline, moment = 0.0
        if not self._system:
            moment = self._now()
        elif not self._coarse:
            moment = exact_time()
        want(<PyObject*>key, &wanted)
        number = store.find(&wanted)
        if number < 0:
            return NULL
        deadline = store.cells[number].deadline
        if not (is_ahead(deadline) if self._coarse else deadline > moment):
            return NULL
        if self._lease is not None and not moment < self._lease.horizon:
            return NULL
        store.use(<uint32_t>number)
        self.near_hits += 1
        Py_INCREF(<object>store.cells[number].value)
        return store.cells[number].value


cdef class NearAccess(NearReads):
    """``put`` as well, of a client that is nothing but such a store.

    See :class:`tiered.clients.near.PythonNearAccess`, its twin.
    """

    cdef Store _written
    cdef object _put
    cdef readonly unsigned long long near_puts

    def write_near(self, store, general):
        """Put into *store*; for all else call ``general(self, key, value, ttl, ...)``.

        Args:
            store: the client's own, or ``None``.
            general: the ``put`` of any client.
        """
        self._written = store if isinstance(store, Store) else None
        self._put = general

    def put(self, key, value, ttl, *, keep=0.0, max_tiers=None):
        """Hold *value* for *ttl* seconds; whether it was written.

        A *ttl* of zero or less stores an entry that is stale already; ``FOREVER`` never
        expires.
        """
        cdef double life, moment
        cdef Store written = self._written  # held: hashing a key may run anything
        if (
            written is not None
            and max_tiers is None
            and (type(ttl) is float or type(ttl) is int)
            and type(keep) is float
            and <double>keep >= 0.0
        ):
            life = ttl  # an int that no float can hold is an OverflowError here as there
            if life == life:
                moment = exact_time() if self._system else self._now()
                if written.write(key, value, moment + life, moment, ALWAYS):
                    self.near_puts += 1
                    return True
                self.counters.drops += 1
                return False
        return self._put(self, key, value, ttl, keep=keep, max_tiers=max_tiers)

# What clients inherit whose nearest tier is a store of this module.

cdef class NearReads:
    """``get`` of a client that may find what it looks for in a store of its own.

    See :class:`tiered.clients.near.PythonNearReads`, its twin.
    """

    cdef Store _store
    cdef object _now
    cdef bint _system
    cdef object _general
    cdef readonly unsigned long long near_hits

    def read_near(self, path, now, general):
        """Look into the store of *path* first; for all else call ``general(self, key, ...)``.

        Args:
            path: a ``HotPath``, or ``None``.
            now: the clock, in seconds.
            general: the ``get`` of any client.
        """
        self._store = None if path is None else path.store
        self._now = now
        self._system = is_system(now)
        self._general = general

    def get(
        self,
        key,
        default=MISSING,
        *,
        ttl_skip=None,
        promote_callback=None,
        max_tiers=None,
    ):
        cdef Wanted wanted
        cdef Py_ssize_t number
        cdef double deadline, moment
        if (
            self._store is not None
            and ttl_skip is None
            and promote_callback is None
            and max_tiers is None
        ):
            moment = 0.0 if self._system else self._now()
            want(<PyObject*>key, &wanted)
            number = self._store.find(&wanted)
            if number >= 0:
                deadline = self._store.cells[number].deadline
                if is_ahead(deadline) if self._system else deadline > moment:
                    self._store.use(<uint32_t>number)
                    self.near_hits += 1
                    return <object>self._store.cells[number].value
        return self._general(
            self,
            key,
            default,
            ttl_skip=ttl_skip,
            promote_callback=promote_callback,
            max_tiers=max_tiers,
        )

# Who works on a key just now, so that what was read before a write is not copied after it.

from threading import RLock


cdef class WatchedKey:
    """What the watchers of one key share. See ``tiered.concurrency.generations``, with the twin."""

    cdef readonly object lock
    cdef public unsigned long long version
    cdef public Py_ssize_t watchers
    cdef public Py_ssize_t writers
    cdef public bint contested
    cdef object _acquire, _release

    def __cinit__(self):
        self.lock = RLock()
        self._acquire = self.lock.acquire
        self._release = self.lock.release

    def passed(self):
        """A place farther than the nearest has been written."""
        self._acquire()
        self.version += 1
        self._release()


cdef class WatchedKeys:
    """The table of keys that are being worked on. See there.

    Keys run Python code when they are looked up, so it has a lock.
    """

    cdef readonly dict states
    cdef object _lock, _acquire, _release
    cdef WatchedKey _spare

    def __init__(self):
        self.begin()

    def begin(self):
        """Nobody works on anything."""
        self.states = {}
        self._lock = RLock()
        self._acquire = self._lock.acquire
        self._release = self._lock.release
        self._spare = None

    def enter(self, key, bint writes):
        """Note that somebody works on *key*, who *writes* or not."""
        cdef WatchedKey state
        # A key's code may fork, and the child begins anew: what is in use here is kept.
        cdef dict states
        release = self._release
        self._acquire()
        try:
            states = self.states
            found = states.get(key)
            if found is None:
                state = self._spare
                self._spare = None
                if state is None:
                    state = WatchedKey()
                states = self.states
                states[key] = state
            else:
                state = found
            state.watchers += 1
        finally:
            release()
        if writes:
            state._acquire()
            state.contested |= state.writers > 0
            state.writers += 1
            state._release()
        return state

    def leave(self, key, WatchedKey state not None, bint writes):
        """What was entered has been done."""
        cdef dict states
        if writes:
            state._acquire()
            state.writers -= 1
            state.contested &= state.writers > 0
            state._release()
        release = self._release
        self._acquire()
        try:
            state.watchers -= 1
            states = self.states
            if state.watchers == 0 and states.get(key) is state:
                del states[key]
                # To make one takes longer than to keep it.
                self._spare = state
        finally:
            release()

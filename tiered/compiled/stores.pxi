# The protocol of tiered.typing.Store, on a table and up to two queues.

cdef struct Queue:
    uint32_t newest
    uint32_t oldest
    Py_ssize_t length
    double usage

cdef object blank = Entry.__new__

cdef object entry_of(object value, double deadline):
    """An entry, without a Python frame for its constructor."""
    entry = blank(Entry)
    entry.value = value
    entry.deadline = deadline
    return entry


cdef class Victim:
    """An evicted entry, as those who hear of evictions are told of it."""

    cdef readonly object key
    cdef readonly object value


cdef list victims_in(Remains* remains):
    """What was evicted, as objects."""
    cdef list victims = []
    cdef Victim victim
    cdef Py_ssize_t at
    for at in range(0, remains.length, 3):
        victim = Victim.__new__(Victim)
        victim.key = <object>remains.objects[at]
        if remains.objects[at + 1] != NULL:
            victim.key = (<object>remains.objects[at + 1], victim.key)
        victim.value = <object>remains.objects[at + 2]
        victims.append(victim)
    return victims


cdef class Store(Table):
    """What both policies share: the protocol, on the table and up to two queues.

    Threads: safe, by the GIL and the rule of this module. User code (weighers, callbacks,
    comparisons, finalisers) runs while the structure is whole.
    """

    cdef readonly object capacity
    cdef object _weigher
    cdef object _on_evict
    cdef double limit
    cdef Queue queues[2]

    def __cinit__(self, capacity, weigher=None, on_evict=None):
        if type(self) is Store:
            raise TypeError("a Store has no policy; use LRUStore or S3FIFOStore")
        self.capacity = capacity
        try:
            self.limit = capacity
        except OverflowError:  # an int that no float can hold is no bound
            self.limit = float("inf")
        self._weigher = weigher
        self._on_evict = on_evict
        self.weighs = weigher is not None
        self.reset()

    cdef void reset(self) noexcept:
        """Empty queues."""
        cdef int at
        for at in range(2):
            self.queues[at].newest = self.queues[at].oldest = NONE
            self.queues[at].length = 0
            self.queues[at].usage = 0.0

    # -- The policy: no Python code runs in these ------------------------------------

    cdef void use(self, uint32_t number) noexcept:
        """A reader has found the cell."""

    cdef uint32_t victim(self) noexcept:
        """The cell that is to leave next, still in its queue; there must be one."""
        return NONE

    cdef int queue_for(self, uint32_t tag) noexcept:
        """The queue that a new key joins, once there is room for it."""
        return 0

    cdef int place(self, Wanted* wanted, PyObject* value, double deadline, double weight,
                   Remains* evicted) except -1:
        """Hold a new key, which fits, and make room for it."""
        return 0

    cdef int replace(self, uint32_t number, double weight, Remains* evicted) except -1:
        """A present key has been given another value, of *weight*; make room for it."""
        return 0

    # -- Queues ------------------------------------------------------------------------

    cdef void enqueue(self, int which, uint32_t number) noexcept:
        """Make a cell the newest of a queue; its weight is the caller's affair."""
        cdef Queue* queue = &self.queues[which]
        cdef Cell* cell = &self.cells[number]
        cell.queue = which
        cell.older = queue.newest
        cell.newer = NONE
        if queue.newest == NONE:
            queue.oldest = number
        else:
            self.cells[queue.newest].newer = number
        queue.newest = number
        queue.length += 1

    cdef void dequeue(self, uint32_t number) noexcept:
        """Take a cell out of its queue, wherever it stands there; likewise."""
        cdef Cell* cell = &self.cells[number]
        cdef Queue* queue = &self.queues[cell.queue]
        if cell.newer == NONE:
            queue.newest = cell.older
        else:
            self.cells[cell.newer].older = cell.older
        if cell.older == NONE:
            queue.oldest = cell.newer
        else:
            self.cells[cell.older].newer = cell.newer
        queue.length -= 1

    cdef inline double usage_of(self, int which) noexcept:
        """The weight in a queue."""
        return self.queues[which].usage if self.weighs else <double>self.queues[which].length

    cdef inline double total(self) noexcept:
        """The weight held."""
        return self.usage_of(0) + self.usage_of(1)

    cdef uint32_t admit(
        self, Wanted* wanted, PyObject* value, double deadline, double weight
    ) except? NONE:
        """Hold a new key, in its queue and in the count."""
        cdef uint32_t number
        cdef int which
        self.reserve(self.most())
        which = self.queue_for(wanted.tag)
        number = self.hold(wanted, value, deadline)
        if self.weighs:
            self.weights[number] = weight
            self.queues[which].usage += weight
        self.enqueue(which, number)
        return number

    cdef void leave(self, uint32_t number, Remains* remains) noexcept:
        """Forget a cell; after ``prepare``."""
        self.dequeue(number)
        if self.weighs:
            self.queues[self.cells[number].queue].usage -= self.weights[number]
        self.give_up(number, remains)

    cdef Py_ssize_t most(self) noexcept:
        """How many cells will ever be held; one more than fit, while room is made."""
        if self.weighs or not self.limit < NONE:
            return NONE
        return <Py_ssize_t>self.limit + 1

    # -- The protocol --------------------------------------------------------------------

    @property
    def usage(self):
        """The weight held."""
        return self.total() if self.weighs else self.length

    def __len__(self):
        return self.length

    def __sizeof__(self):
        cdef Py_ssize_t size = object.__sizeof__(self) + self.room * <Py_ssize_t>sizeof(Cell)
        if self.weighs:
            size += self.room * <Py_ssize_t>sizeof(double)
        if self.index.slots != NULL:
            size += (<Py_ssize_t>self.index.mask + 1) * <Py_ssize_t>sizeof(uint32_t)
        return size

    def entry(self, key):
        """What is held, fresh or stale; a use of it."""
        cdef Wanted wanted
        cdef Py_ssize_t number
        want(<PyObject*>key, &wanted)
        number = self.find(&wanted)
        if number < 0:
            return None
        self.use(<uint32_t>number)
        return entry_of(<object>self.cells[number].value, self.cells[number].deadline)

    def hot_path(self):
        """:meth:`entry` as a whole, and the store for those who read it without an entry."""
        return HotPath(self.entry, store=self)

    def put(self, key, value, double deadline, double now, condition=ALWAYS):
        """Hold *value*; ``False`` if *condition* forbids, or it outweighs the capacity.

        A value that is too heavy still displaces the one before it.
        """
        return self.write(key, value, deadline, now, condition)

    cdef bint write(
        self, object key, object value, double deadline, double now, object condition
    ) except -1:
        """:meth:`put`."""
        cdef double weight = weigh(self._weigher, key, value) if self.weighs else 1.0
        cdef Wanted wanted
        cdef Py_ssize_t number
        cdef PyObject* replaced = NULL
        cdef Remains removed, evicted
        cdef bint fits = weight <= self.limit
        want(<PyObject*>key, &wanted)
        number = self.find(&wanted)
        if number < 0 and fits and not self.weighs and self._on_evict is None:
            self.join(&wanted, <PyObject*>value, deadline)
            return True
        if number >= 0 and condition is not ALWAYS:
            if condition is IF_ABSENT:
                if self.cells[number].deadline > now:
                    return False
            elif not self.cells[number].deadline < deadline:
                return False
        begin(&removed)
        begin(&evicted)
        victims = None
        try:
            if not fits:
                if number >= 0:
                    self.leave(<uint32_t>number, &removed)
            elif number >= 0:
                replaced = self.cells[number].value
                Py_INCREF(value)
                self.cells[number].value = <PyObject*>value
                self.cells[number].deadline = deadline
                self.replace(<uint32_t>number, weight, &evicted)
            else:
                self.place(&wanted, <PyObject*>value, deadline, weight, &evicted)
            if evicted.length > 0 and self._on_evict is not None:
                victims = victims_in(&evicted)
        finally:
            Py_XDECREF(replaced)
            release(&removed)
            release(&evicted)
        if victims is not None:
            announce(self._on_evict, victims, SIZE)
        return fits

    cdef int join(self, Wanted* wanted, PyObject* value, double deadline) except -1:
        """Hold a new key where each entry weighs one, and nobody hears who leaves for it.

        What :meth:`place` does, for the usual store: full, so that one comes and one goes.
        """
        cdef Cell* cell
        cdef uint32_t number, victim
        cdef PyObject* key
        cdef PyObject* space
        cdef PyObject* old
        self.reserve(self.most())
        number = self.hold(wanted, value, deadline)
        if self.length <= self.limit:
            self.enqueue(self.queue_for(wanted.tag), number)
            return 0
        victim = self.victim()
        self.dequeue(victim)
        cell = &self.cells[victim]
        key, space, old = cell.key, cell.space, cell.value
        take_out(&self.index, victim)
        self.length -= 1
        self.moves += 1
        self.free_cell(victim)
        self.enqueue(self.queue_for(wanted.tag), number)
        Py_DECREF(<object>key)
        Py_XDECREF(space)
        Py_DECREF(<object>old)
        return 0

    def touch(self, key, double deadline):
        """Move the deadline out; ``False`` if nothing is held or it lives longer already."""
        cdef Wanted wanted
        cdef Py_ssize_t number
        want(<PyObject*>key, &wanted)
        number = self.find(&wanted)
        if number < 0 or self.cells[number].deadline >= deadline:
            return False
        self.cells[number].deadline = deadline
        return True

    def expire(self, key, double now):
        """Move the deadline in to *now*; ``False`` if nothing fresh is held."""
        cdef Wanted wanted
        cdef Py_ssize_t number
        want(<PyObject*>key, &wanted)
        number = self.find(&wanted)
        if number < 0 or self.cells[number].deadline <= now:
            return False
        self.cells[number].deadline = now
        return True

    def remove(self, key):
        """Forget *key*; whether it was held."""
        cdef Wanted wanted
        cdef Py_ssize_t number
        cdef Remains removed
        want(<PyObject*>key, &wanted)
        number = self.find(&wanted)
        if number < 0:
            return False
        begin(&removed)
        self.leave(<uint32_t>number, &removed)
        release(&removed)
        return True

    def sweep(self, double before):
        """Forget what has a deadline before *before*; how many."""
        cdef Remains expired
        cdef Py_ssize_t count
        cdef uint32_t number, newer
        cdef int at
        begin(&expired)
        victims = None
        try:
            for at in range(2):
                number = self.queues[at].oldest
                while number != NONE:
                    newer = self.cells[number].newer
                    if self.cells[number].deadline < before:
                        prepare(&expired)
                        self.leave(number, &expired)
                    number = newer
            count = expired.length // 3
            if count > 0 and self._on_evict is not None:
                victims = victims_in(&expired)
        finally:
            release(&expired)
        if victims is not None:
            announce(self._on_evict, victims, EXPIRED)
        return count

    def clear(self):
        """Forget everything; how much it was."""
        cdef Py_ssize_t count = self.length
        self.reset()
        self.drop()
        return count

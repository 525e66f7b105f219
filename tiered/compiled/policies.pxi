# The two policies of stores: who leaves when one is full.

@cython.final
cdef class LRUStore(Store):
    """The exact LRU; see :class:`tiered.stores.lru.LRUStore`, its twin."""

    cdef void use(self, uint32_t number) noexcept:
        if self.queues[0].newest != number:
            self.dequeue(number)
            self.enqueue(0, number)

    cdef uint32_t victim(self) noexcept:
        return self.queues[0].oldest

    cdef int place(self, Wanted* wanted, PyObject* value, double deadline, double weight,
                   Remains* evicted) except -1:
        self.admit(wanted, value, deadline, weight)
        return self.shrink(evicted)

    cdef int replace(self, uint32_t number, double weight, Remains* evicted) except -1:
        self.use(number)
        if self.weighs:
            # In this order, as the twin has it: fractions are rounded alike.
            self.queues[0].usage += weight
            self.queues[0].usage -= self.weights[number]
            self.weights[number] = weight
        return self.shrink(evicted)

    cdef int shrink(self, Remains* evicted) except -1:
        """Evict the oldest until the rest fits; never the newest, which does."""
        while self.total() > self.limit and self.length > 1:
            prepare(evicted)
            self.leave(self.victim(), evicted)
        return 0


cdef enum:
    SMALL = 0
    MAIN = 1
    MOST_USES = 3
    PROMOTED = 2

cdef double SMALL_SHARE = 0.1


@cython.final
cdef class S3FIFOStore(Store):
    """S3-FIFO; see :class:`tiered.stores.s3fifo.S3FIFOStore`, its twin."""

    cdef Ghost ghost
    cdef bint has_evicted

    def __cinit__(self, *_args, **_options):
        self.reset()  # Store.__cinit__ has run its own only: methods are not overridden yet

    def __dealloc__(self):
        forget_ghosts(&self.ghost)

    cdef void reset(self) noexcept:
        Store.reset(self)
        self.has_evicted = False
        forget_ghosts(&self.ghost)

    def __sizeof__(self):
        return Store.__sizeof__(self) + memory_of(&self.ghost)

    cdef void use(self, uint32_t number) noexcept:
        if self.cells[number].uses < MOST_USES:
            self.cells[number].uses += 1

    cdef inline bint small_is_full(self) noexcept:
        return self.usage_of(SMALL) >= SMALL_SHARE * self.limit

    cdef int queue_for(self, uint32_t tag) noexcept:
        if recall(&self.ghost, tag):
            return MAIN
        # The first fill: there is nothing yet to protect from a scan.
        return MAIN if not self.has_evicted and self.small_is_full() else SMALL

    cdef int place(self, Wanted* wanted, PyObject* value, double deadline, double weight,
                   Remains* evicted) except -1:
        self.make_room(weight, evicted)
        self.admit(wanted, value, deadline, weight)
        return 0

    cdef int replace(self, uint32_t number, double weight, Remains* evicted) except -1:
        cdef int queue = self.cells[number].queue
        cdef double before
        if not self.weighs:
            return 0
        before = self.weights[number]
        self.weights[number] = weight
        if self.total() - before + weight <= self.limit:
            self.queues[queue].usage += weight - before
            return 0
        self.dequeue(number)
        self.queues[queue].usage -= before
        try:
            self.make_room(weight, evicted)
        finally:
            self.queues[queue].usage += weight
            self.enqueue(queue, number)
        return 0

    cdef int make_room(self, double weight, Remains* evicted) except -1:
        """Evict until *weight* more fits."""
        while self.total() + weight > self.limit:
            if self.queues[SMALL].length + self.queues[MAIN].length == 0:
                return 0
            prepare(evicted)
            self.leave(self.victim(), evicted)
        return 0

    cdef uint32_t victim(self) noexcept:
        """One of those that were used least since they came; the ghost remembers it."""
        cdef uint32_t number
        cdef Queue* small = &self.queues[SMALL]
        cdef Queue* main = &self.queues[MAIN]
        self.has_evicted = True
        while True:
            if small.length > 0 and (main.length == 0 or self.small_is_full()):
                number = small.oldest
                if self.cells[number].uses < PROMOTED:
                    remember(&self.ghost, self.cells[number].tag, self.entries())
                    return number
                self.cells[number].uses = 0
                if self.weighs:
                    main.usage += self.weights[number]
                    small.usage -= self.weights[number]
            else:
                number = main.oldest
                if self.cells[number].uses == 0:
                    return number
                self.cells[number].uses -= 1
            self.dequeue(number)
            self.enqueue(MAIN, number)

    cdef double entries(self) noexcept:
        """How many there are, or will be, room for."""
        if not self.weighs:
            return self.limit
        # The victim, which is still there, is none of them.
        return <double>(self.queues[SMALL].length + self.queues[MAIN].length - 1)


# -- The collector: it must see what lies in raw memory ----------------------------------

cdef traverseproc visit_attributes = (<TypeSlots*>Store).tp_traverse
cdef inquiry clear_attributes = (<TypeSlots*>Store).tp_clear


cdef int visit_all(PyObject* self, visitproc visit, void* argument) noexcept:
    cdef Store store = <Store>self
    cdef Cell* cell
    cdef Py_ssize_t number
    cdef int answer = visit_attributes(self, visit, argument)
    if answer:
        return answer
    for number in range(store.filled):
        cell = &store.cells[number]
        if cell.key != NULL:
            answer = visit(cell.key, argument) or visit(cell.value, argument)
            if answer:
                return answer
    return 0


cdef int clear_all(PyObject* self) noexcept:
    (<Store>self).reset()
    (<Store>self).drop()
    return clear_attributes(self)


for kind in (Store, LRUStore, S3FIFOStore):
    (<TypeSlots*>kind).tp_traverse = visit_all
    (<TypeSlots*>kind).tp_clear = clear_all

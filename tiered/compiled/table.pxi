# The hash table of a store: cells in one block of raw memory.

cdef struct Wanted:
    # A key that is looked for; the references are borrowed from whoever asks.
    PyObject* key
    PyObject* space
    uint32_t tag
    # Where a search for it has ended, and the table's moves then: it may be put there.
    uint32_t at
    unsigned long long moves

cdef struct Remains:
    # What was taken out of a table, to be freed once the table is whole again.
    PyObject** objects   # key, space, value; key, space, value; ...
    Py_ssize_t length
    Py_ssize_t room
    PyObject* few[12]    # the usual place, so that an eviction needs no memory


cdef inline int want(PyObject* key, Wanted* wanted) except -1:
    """Describe *key*, which may run its ``__hash__``."""
    cdef PyObject* first
    if SPLITS and PyTuple_CheckExact(<object>key) and PyTuple_GET_SIZE(<object>key) == 2:
        first = <PyObject*>PyTuple_GET_ITEM(<object>key, 0)
        if PyUnicode_CheckExact(<object>first):
            return want_pair(
                first,
                fold(UNFOLDED, PyObject_Hash(<object>first)),
                <PyObject*>PyTuple_GET_ITEM(<object>key, 1),
                wanted,
            )
    wanted.space = NULL
    wanted.key = key
    wanted.tag = tag_of(PyObject_Hash(<object>key))
    return 0


cdef inline int want_pair(
    PyObject* space, uint64_t folded, PyObject* key, Wanted* wanted
) except -1:
    """Describe ``(space, key)``; *folded* is of the hash of *space*, an exact ``str``."""
    wanted.space = space
    wanted.key = key
    wanted.tag = tag_of(pair_hash(folded, PyObject_Hash(<object>key)))
    return 0


cdef class Table:
    """Cells by key. The number of a cell is its place in the block while it is held.

    No Python code runs in the methods that are ``noexcept``, except in ``drop``.
    """

    cdef Index index
    cdef Cell* cells
    cdef double* weights          # by cell; NULL where each weighs one
    cdef bint weighs
    cdef uint32_t free            # the first free one of the cells that were in use
    cdef Py_ssize_t filled        # cells that ever were in use
    cdef Py_ssize_t room          # cells there is memory for
    cdef Py_ssize_t length
    cdef unsigned long long moves # counts what makes a search in progress start again

    def __cinit__(self, *_args, **_options):
        self.free = NONE

    def __dealloc__(self):
        self.drop()

    # -- Finding -----------------------------------------------------------------

    cdef inline Py_ssize_t find(self, Wanted* wanted) except -2:
        """The number of the cell that holds the key, or -1."""
        cdef uint32_t at, slot
        cdef Cell* cell
        cdef int same
        wanted.at = NONE
        if self.length == 0:
            return -1
        at = wanted.tag & self.index.mask
        while True:
            slot = self.index.slots[at]
            if slot == 0:
                wanted.at = at
                wanted.moves = self.moves
                return -1
            if may_be(&self.index, slot, wanted.tag):
                cell = &self.cells[number_in(&self.index, slot)]
                if cell.tag == wanted.tag:
                    same = resembles(cell, wanted)
                    if same == 1:
                        return number_in(&self.index, slot)
                    if same == -1:
                        return self.search(wanted)
            at = (at + 1) & self.index.mask

    cdef Py_ssize_t search(self, Wanted* wanted) except -2:
        """The same, where Python must compare keys."""
        cdef Py_ssize_t number
        while True:
            number = self.compare_all(wanted)
            # What it held is let go of by now, and the end of a key may run anything as well.
            if self.moves == wanted.moves and (
                number >= 0 or wanted.at == NONE or self.index.slots[wanted.at] == 0
            ):
                return number

    cdef Py_ssize_t compare_all(self, Wanted* wanted) except -2:
        """One search, true as of the moment when it ends, which *wanted* remembers.

        If cells were moved meanwhile, it starts again, but compares nothing twice: so it ends,
        however slow a comparison is and whoever writes at the same time.
        """
        cdef uint32_t at, slot, number
        cdef Cell* cell
        cdef int same
        cdef list others = []     # keys and spaces that were found not to be equal
        cdef list equal = []      # and one that is
        while self.length > 0:
            wanted.moves = self.moves
            at = wanted.tag & self.index.mask
            while self.moves == wanted.moves:
                slot = self.index.slots[at]
                if slot == 0:
                    wanted.at = at
                    return -1
                number = number_in(&self.index, slot)
                at = (at + 1) & self.index.mask
                cell = &self.cells[number]
                if cell.tag != wanted.tag:
                    continue
                same = resembles(cell, wanted)
                if same == 1 or (same == -1 and is_among(equal, cell)):
                    return number
                if same == 0 or is_among(others, cell):
                    continue
                # Held before the list is made, which may run the collector, and with that any
                # code; the comparison may run any anyway.
                held = <object>cell.key
                space = None if cell.space == NULL else <object>cell.space
                parts = [held, space]
                if self.moves == wanted.moves:
                    if compare(held, space, wanted):
                        equal = parts
                        if self.moves == wanted.moves:
                            return number
                    else:
                        others = others + parts
        wanted.moves = self.moves
        wanted.at = NONE
        return -1

    # -- Memory --------------------------------------------------------------------

    cdef int reserve(self, Py_ssize_t most) except -1:
        """See that there is memory for one more cell, where no more than *most* are ever held."""
        cdef Py_ssize_t room
        cdef void* grown
        if self.free == NONE and self.filled == self.room:
            # By a quarter only: many caches are bound by memory.
            room = min(self.room + (self.room >> 2) + LEAST, max(most, self.room + 1))
            grown = PyMem_Realloc(self.cells, room * sizeof(Cell))
            if grown == NULL:
                raise MemoryError()
            self.cells = <Cell*>grown
            self.index.cells = self.cells
            if self.weighs:
                grown = PyMem_Realloc(self.weights, room * sizeof(double))
                if grown == NULL:
                    raise MemoryError()
                self.weights = <double*>grown
            self.room = room
        if is_crowded(&self.index):
            if not widen(&self.index):
                raise MemoryError("no memory, or more than eighty million entries")
            self.moves += 1
        return 0

    cdef void drop(self) noexcept:
        """Hold nothing, and then free what was held, which may run anything."""
        cdef Cell* cells = self.cells
        cdef Py_ssize_t filled = self.filled
        cdef Py_ssize_t number
        PyMem_Free(self.weights)
        empty(&self.index)
        self.weights = NULL
        self.cells = NULL
        self.free = NONE
        self.filled = self.room = self.length = 0
        self.moves += 1
        for number in range(filled):
            if cells[number].key != NULL:
                Py_XDECREF(cells[number].space)
                Py_XDECREF(cells[number].key)
                Py_XDECREF(cells[number].value)
        PyMem_Free(cells)

    # -- Cells ---------------------------------------------------------------------

    cdef uint32_t hold(self, Wanted* wanted, PyObject* value, double deadline) noexcept:
        """A new cell with a key that is not there yet; after :meth:`reserve`."""
        cdef uint32_t number = self.free
        cdef Cell* cell
        if number == NONE:
            number = <uint32_t>self.filled
            self.filled += 1
            cell = &self.cells[number]
        else:
            cell = &self.cells[number]
            self.free = cell.newer
        Py_INCREF(<object>wanted.key)
        Py_XINCREF(wanted.space)
        Py_INCREF(<object>value)
        cell.key = wanted.key
        cell.space = wanted.space
        cell.value = value
        cell.deadline = deadline
        cell.tag = wanted.tag
        cell.uses = 0
        self.length += 1
        if wanted.at != NONE and wanted.moves == self.moves:
            put_at(&self.index, wanted.at, number)
        else:
            put_in(&self.index, number)
        return number

    cdef void give_up(self, uint32_t number, Remains* remains) noexcept:
        """Free a cell that is in no queue, its references to *remains*; after ``prepare``."""
        cdef Cell* cell = &self.cells[number]
        remains.objects[remains.length] = cell.key
        remains.objects[remains.length + 1] = cell.space
        remains.objects[remains.length + 2] = cell.value
        remains.length += 3
        take_out(&self.index, number)
        self.length -= 1
        self.moves += 1
        self.free_cell(number)

    cdef inline void free_cell(self, uint32_t number) noexcept:
        self.cells[number].key = NULL
        self.cells[number].newer = self.free
        self.free = number


cdef inline int resembles(Cell* cell, Wanted* wanted) noexcept:
    """1 if the cell holds the key, 0 if not, -1 if Python must compare them."""
    if cell.key == wanted.key and cell.space == wanted.space:
        return 1
    if (cell.space == NULL) != (wanted.space == NULL):
        return -1  # a pair, and something that may be equal to one without being one
    if cell.space != wanted.space and not same_text(cell.space, wanted.space):
        return 0
    return plainly_equal(cell.key, wanted.key, DEPTH)


cdef bint is_among(list parts, Cell* cell) noexcept:
    """Whether *parts* has the cell's key and space; by identity, so that nothing runs."""
    cdef Py_ssize_t at
    for at in range(0, len(parts), 2):
        if <PyObject*>parts[at] == cell.key:
            if cell.space == (NULL if parts[at + 1] is None else <PyObject*>parts[at + 1]):
                return True
    return False


cdef bint compare(object key, object space, Wanted* wanted) except -1:
    """Whether what is held equals what is wanted, by its own ``__eq__``."""
    if (space is None) == (wanted.space == NULL):
        return PyObject_RichCompareBool(key, <object>wanted.key, Py_EQ)
    held = key if space is None else (space, key)
    asked = <object>wanted.key
    if wanted.space != NULL:
        asked = (<object>wanted.space, asked)
    return PyObject_RichCompareBool(held, asked, Py_EQ)


cdef inline void begin(Remains* remains) noexcept:
    remains.objects = remains.few
    remains.length = 0
    remains.room = 12


cdef int prepare(Remains* remains) except -1:
    """See that there is memory for one cell more."""
    cdef void* grown
    if remains.length == remains.room:
        grown = PyMem_Malloc(2 * remains.room * sizeof(PyObject*))
        if grown == NULL:
            raise MemoryError()
        memcpy(grown, remains.objects, remains.length * sizeof(PyObject*))
        if remains.objects != remains.few:
            PyMem_Free(remains.objects)
        remains.objects = <PyObject**>grown
        remains.room *= 2
    return 0


cdef void release(Remains* remains) noexcept:
    """Free what was taken out, which may run anything."""
    cdef Py_ssize_t at
    for at in range(remains.length):
        Py_XDECREF(remains.objects[at])
    if remains.objects != remains.few:
        PyMem_Free(remains.objects)

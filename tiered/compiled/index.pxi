# The index of a table: numbers of cells by the tags in these. Open addressing, no tombstones.

cdef extern from *:
    const uint32_t NONE "UINT32_MAX"  # no cell, where the number of one would be

cdef enum:
    LEAST = 8              # slots of an index that holds anything; a power of two
    MOST_BITS = 27         # of a number: so many cells, less two fifths, fit
    AWAY_BITS = 5
    FAR_AWAY = 31

cdef struct Cell:
    PyObject* key        # NULL while the cell is free
    PyObject* space      # the first part of a key that is kept in two; else NULL
    PyObject* value
    double deadline
    uint32_t tag         # of the key's hash
    uint32_t newer       # neighbours in the queue; of a free cell, the next free one
    uint32_t older
    uint16_t queue       # which queue
    uint16_t uses        # as the policy counts them

cdef struct Index:
    # A slot is made of three parts, from its low bits to its high ones. The number of the cell
    # plus one; 0 in an empty slot. How far it lies behind the slot that its tag points to, so
    # that a gap is closed without touching cells; FAR_AWAY for that far and farther. And as many
    # high bits of the tag as are left: what is not looked for is passed by without touching it.
    uint32_t* slots
    uint32_t mask      # slots - 1: of the number
    uint32_t filter    # of the tag's bits
    int bits           # of the number
    Py_ssize_t count
    Cell* cells

# Of the slots that may be in use. A fuller index is smaller, and its runs of slots are longer,
# which costs the processor a wrong guess for each end of one.
cdef double SHARE = 0.6


cdef inline uint32_t tag_of(Py_hash_t hashed) noexcept:
    """32 well mixed bits of a hash."""
    return <uint32_t>((<uint64_t>hashed * <uint64_t>0x9E3779B97F4A7C15) >> 32)


cdef inline uint32_t number_in(Index* index, uint32_t slot) noexcept:
    """Of the cell in a slot that is not empty."""
    return (slot & index.mask) - 1


cdef inline bint may_be(Index* index, uint32_t slot, uint32_t tag) noexcept:
    """Whether the cell in *slot* may have *tag*, as far as the slot knows."""
    return (slot ^ tag) & index.filter == 0


cdef inline uint32_t slot_for(
    Index* index, uint32_t tag, uint32_t away, uint32_t number
) noexcept:
    if away > FAR_AWAY:
        away = FAR_AWAY
    return (tag & index.filter) | (away << index.bits) | (number + 1)


cdef inline uint32_t away_from_home(Index* index, uint32_t at) noexcept:
    """How far what is in the slot *at* lies behind its own."""
    cdef uint32_t slot = index.slots[at]
    cdef uint32_t away = (slot >> index.bits) & FAR_AWAY
    if away == FAR_AWAY:
        return (at - index.cells[number_in(index, slot)].tag) & index.mask
    return away


cdef void put_in(Index* index, uint32_t number) noexcept:
    """Enter a cell; there must be a free slot."""
    cdef uint32_t at = index.cells[number].tag & index.mask
    while index.slots[at] != 0:
        at = (at + 1) & index.mask
    put_at(index, at, number)


cdef inline void put_at(Index* index, uint32_t at, uint32_t number) noexcept:
    """Enter a cell into a free slot, which is the first one from its own."""
    cdef uint32_t tag = index.cells[number].tag
    index.slots[at] = slot_for(index, tag, (at - tag) & index.mask, number)
    index.count += 1


cdef void take_out(Index* index, uint32_t number) noexcept:
    """Empty a cell's slot, and close the gap, so that no search ends in it."""
    cdef uint32_t hole = index.cells[number].tag & index.mask
    cdef uint32_t at, slot, away, step
    while number_in(index, index.slots[hole]) != number:
        hole = (hole + 1) & index.mask
    at = (hole + 1) & index.mask
    while index.slots[at] != 0:
        away = away_from_home(index, at)
        step = (at - hole) & index.mask
        if away >= step:
            slot = index.slots[at]
            index.slots[hole] = slot_for(index, slot, away - step, number_in(index, slot))
            hole = at
        at = (at + 1) & index.mask
    index.slots[hole] = 0
    index.count -= 1


cdef inline bint is_crowded(Index* index) noexcept:
    """Whether there should be more slots before one more cell is entered."""
    return index.slots == NULL or index.count + 1 > SHARE * (<double>index.mask + 1)


cdef bint widen(Index* index) noexcept:
    """Twice as many slots; whether there was memory, and numbers."""
    cdef uint32_t* before = index.slots
    cdef uint32_t mask = index.mask
    cdef Py_ssize_t length = 0 if before == NULL else <Py_ssize_t>mask + 1
    cdef Py_ssize_t count = LEAST if before == NULL else 2 * length
    cdef uint32_t* slots
    cdef Py_ssize_t at
    if count >> MOST_BITS > 1:
        return False
    slots = <uint32_t*>PyMem_Calloc(count, sizeof(uint32_t))
    if slots == NULL:
        return False
    index.slots = slots
    index.mask = <uint32_t>(count - 1)
    index.bits = 3 if before == NULL else index.bits + 1
    index.filter = 0
    if index.bits < MOST_BITS:
        index.filter = ~((<uint32_t>1 << (index.bits + AWAY_BITS)) - 1)
    index.count = 0
    for at in range(length):
        if before[at] != 0:
            put_in(index, (before[at] & mask) - 1)
    PyMem_Free(before)
    return True


cdef void empty(Index* index) noexcept:
    """Give the slots back."""
    PyMem_Free(index.slots)
    index.slots = NULL
    index.mask = 0
    index.count = 0

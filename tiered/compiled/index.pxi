# An index of numbered items by the tags in them: open addressing, no tombstones.

cdef extern from *:
    const uint32_t NONE "UINT32_MAX"  # no item, where the number of one would be

cdef enum:
    LEAST = 8  # slots of an index that holds anything; a power of two

cdef struct Index:
    # A slot holds an item's number plus one in its low bits, and in the others as many of the
    # tag's high bits: what is not looked for is passed by without touching the item.
    uint32_t* slots
    uint32_t mask    # slots - 1
    char* tags       # of item 0; the items may move, this moves with them
    size_t stride    # bytes from one tag to the next
    Py_ssize_t count


cdef inline uint32_t tag_of(Py_hash_t hashed) noexcept:
    """32 well mixed bits of a hash."""
    return <uint32_t>((<uint64_t>hashed * <uint64_t>0x9E3779B97F4A7C15) >> 32)


cdef inline uint32_t tag_at(Index* index, uint32_t number) noexcept:
    return (<uint32_t*>(index.tags + number * index.stride))[0]


cdef inline bint may_be(Index* index, uint32_t slot, uint32_t tag) noexcept:
    """Whether the item in *slot* may have *tag*, as far as the slot knows."""
    return (slot ^ tag) & ~index.mask == 0


cdef void put_in(Index* index, uint32_t number) noexcept:
    """Enter an item; there must be a free slot."""
    cdef uint32_t tag = tag_at(index, number)
    cdef uint32_t at = tag & index.mask
    while index.slots[at] != 0:
        at = (at + 1) & index.mask
    index.slots[at] = (tag & ~index.mask) | (number + 1)
    index.count += 1


cdef void take_out(Index* index, uint32_t number) noexcept:
    """Empty an item's slot, and close the gap, so that no search ends in it."""
    cdef uint32_t hole = tag_at(index, number) & index.mask
    cdef uint32_t at, home
    while index.slots[hole] & index.mask != number + 1:
        hole = (hole + 1) & index.mask
    at = (hole + 1) & index.mask
    while index.slots[at] != 0:
        home = tag_at(index, (index.slots[at] & index.mask) - 1) & index.mask
        if (at - home) & index.mask >= (at - hole) & index.mask:
            index.slots[hole] = index.slots[at]
            hole = at
        at = (at + 1) & index.mask
    index.slots[hole] = 0
    index.count -= 1


cdef inline bint is_crowded(Index* index) noexcept:
    """Whether one more item would fill more than three quarters of the slots."""
    return index.slots == NULL or (index.count + 1) * 4 > (<Py_ssize_t>index.mask + 1) * 3


cdef bint widen(Index* index) noexcept:
    """Twice as many slots; whether there was memory."""
    cdef uint32_t* before = index.slots
    cdef Py_ssize_t length = 0 if before == NULL else <Py_ssize_t>index.mask + 1
    cdef Py_ssize_t count = LEAST if before == NULL else 2 * length
    cdef uint32_t* slots = <uint32_t*>PyMem_Calloc(count, sizeof(uint32_t))
    cdef uint32_t mask = index.mask
    cdef Py_ssize_t at
    if slots == NULL:
        return False
    index.slots = slots
    index.mask = <uint32_t>(count - 1)
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

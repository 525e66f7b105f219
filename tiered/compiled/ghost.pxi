# The ghost of S3-FIFO: the tags of what was evicted lately, in order, without keys.

cdef struct Trace:
    uint32_t tag
    uint32_t newer       # of a free one, the next free one
    uint32_t older

cdef double TRACES_SHARE = 0.75  # of the slots that may be in use

cdef struct Ghost:
    Index index
    Trace* traces
    uint32_t newest
    uint32_t oldest
    uint32_t free
    Py_ssize_t filled
    Py_ssize_t room


cdef void forget_ghosts(Ghost* ghost) noexcept:
    """Remember nothing."""
    empty(&ghost.index)
    PyMem_Free(ghost.traces)
    memset(ghost, 0, sizeof(Ghost))
    ghost.index.stride = sizeof(Trace)
    ghost.newest = ghost.oldest = ghost.free = NONE


cdef Py_ssize_t memory_of(Ghost* ghost) noexcept:
    """Bytes."""
    cdef Py_ssize_t size = ghost.room * <Py_ssize_t>sizeof(Trace)
    if ghost.index.slots != NULL:
        size += (<Py_ssize_t>ghost.index.mask + 1) * <Py_ssize_t>sizeof(uint32_t)
    return size


cdef uint32_t find_ghost(Ghost* ghost, uint32_t tag, uint32_t* at) noexcept:
    """The trace with a tag, or ``NONE``, and the slot where the search has ended."""
    cdef uint32_t slot, number
    at[0] = tag & ghost.index.mask
    while True:
        slot = ghost.index.slots[at[0]]
        if slot == 0:
            return NONE
        number = number_in(&ghost.index, slot)
        if may_be(&ghost.index, slot, tag) and ghost.traces[number].tag == tag:
            return number
        at[0] = (at[0] + 1) & ghost.index.mask


cdef bint forget_ghost(Ghost* ghost, uint32_t tag) noexcept:
    """Forget a tag; whether it was remembered."""
    cdef uint32_t at
    cdef uint32_t number = NONE
    if ghost.index.count > 0:
        number = find_ghost(ghost, tag, &at)
    if number == NONE:
        return False
    erase(ghost, number)
    return True


cdef void erase(Ghost* ghost, uint32_t number) noexcept:
    cdef Trace* trace = &ghost.traces[number]
    take_out(&ghost.index, number)
    if trace.newer == NONE:
        ghost.newest = trace.older
    else:
        ghost.traces[trace.newer].older = trace.older
    if trace.older == NONE:
        ghost.oldest = trace.newer
    else:
        ghost.traces[trace.older].newer = trace.newer
    trace.newer = ghost.free
    ghost.free = number


cdef void add_ghost(Ghost* ghost, uint32_t tag, Py_ssize_t limit) noexcept:
    """Remember a tag as the newest, and no more than *limit*.

    Without memory for it, nothing is remembered: the policy is a little worse for that.
    """
    cdef uint32_t number, at
    cdef Py_ssize_t room
    cdef void* grown
    if limit > 0:
        if ghost.free == NONE and ghost.filled == ghost.room:
            room = min(ghost.room + (ghost.room >> 2) + LEAST, max(limit + 1, ghost.room + 1))
            grown = PyMem_Realloc(ghost.traces, room * sizeof(Trace))
            if grown == NULL:
                return
            ghost.traces = <Trace*>grown
            ghost.index.tags = <char*>&ghost.traces[0].tag
            ghost.room = room
        if is_crowded(&ghost.index, TRACES_SHARE) and not widen(&ghost.index):
            return
        number = find_ghost(ghost, tag, &at)
        if number != NONE:
            erase(ghost, number)
            find_ghost(ghost, tag, &at)
        number = ghost.free
        if number == NONE:
            number = <uint32_t>ghost.filled
            ghost.filled += 1
        else:
            ghost.free = ghost.traces[number].newer
        ghost.traces[number].tag = tag
        ghost.traces[number].older = ghost.newest
        ghost.traces[number].newer = NONE
        if ghost.newest == NONE:
            ghost.oldest = number
        else:
            ghost.traces[ghost.newest].newer = number
        ghost.newest = number
        put_at(&ghost.index, at, number)
    while ghost.index.count > max(limit, 0):
        erase(ghost, ghost.oldest)

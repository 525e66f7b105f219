# The ghost of S3-FIFO: the tags of what was evicted lately; see tiered.stores.ghost, its twin.

cdef struct Tags:
    # A set of tags, in the first free slot from where each points to; 0 in an empty slot.
    uint32_t* slots
    uint32_t mask
    Py_ssize_t count

cdef struct Ghost:
    Tags young
    Tags old

cdef double GENERATION = 0.6  # tags in a generation, for each entry


cdef void forget_all(Tags* tags) noexcept:
    PyMem_Free(tags.slots)
    memset(tags, 0, sizeof(Tags))


cdef bint enlarge(Tags* tags, Py_ssize_t count) noexcept:
    """Have *count* slots, a power of two; whether there was memory."""
    cdef uint32_t* before = tags.slots
    cdef Py_ssize_t length = 0 if before == NULL else <Py_ssize_t>tags.mask + 1
    cdef uint32_t* slots = <uint32_t*>PyMem_Calloc(count, sizeof(uint32_t))
    cdef Py_ssize_t at
    cdef uint32_t place
    if slots == NULL:
        return False
    tags.slots = slots
    tags.mask = <uint32_t>(count - 1)
    for at in range(length):
        if before[at] != 0:
            slots[place_of_tag(tags, before[at])] = before[at]
    PyMem_Free(before)
    return True


cdef inline uint32_t place_of_tag(Tags* tags, uint32_t tag) noexcept:
    """The slot that a tag is in, or would be."""
    cdef uint32_t at = tag & tags.mask
    while tags.slots[at] != 0 and tags.slots[at] != tag:
        at = (at + 1) & tags.mask
    return at


cdef bint discard_tag(Tags* tags, uint32_t tag) noexcept:
    """Take a tag out; whether it was in."""
    cdef uint32_t hole, at
    if tags.count == 0:
        return False
    hole = place_of_tag(tags, tag)
    if tags.slots[hole] == 0:
        return False
    at = (hole + 1) & tags.mask
    while tags.slots[at] != 0:
        if (at - tags.slots[at]) & tags.mask >= (at - hole) & tags.mask:
            tags.slots[hole] = tags.slots[at]
            hole = at
        at = (at + 1) & tags.mask
    tags.slots[hole] = 0
    tags.count -= 1
    return True


cdef void forget_ghosts(Ghost* ghost) noexcept:
    """Remember nothing."""
    forget_all(&ghost.young)
    forget_all(&ghost.old)


cdef Py_ssize_t memory_of(Ghost* ghost) noexcept:
    """Bytes."""
    cdef Py_ssize_t slots = 0
    if ghost.young.slots != NULL:
        slots += <Py_ssize_t>ghost.young.mask + 1
    if ghost.old.slots != NULL:
        slots += <Py_ssize_t>ghost.old.mask + 1
    return slots * <Py_ssize_t>sizeof(uint32_t)


cdef bint recall(Ghost* ghost, uint32_t tag) noexcept:
    """Whether a tag is remembered; it is no longer, after this."""
    tag = tag or 1
    return discard_tag(&ghost.young, tag) | discard_tag(&ghost.old, tag)


cdef void remember(Ghost* ghost, uint32_t tag, double entries) noexcept:
    """Add a tag; *entries* is how many the store has room for.

    Without memory for it, nothing is remembered: the policy is a little worse for that.
    """
    cdef Tags* young = &ghost.young
    cdef Py_ssize_t count
    cdef uint32_t at
    tag = tag or 1
    if young.slots == NULL or (young.count + 1) * 4 > (<Py_ssize_t>young.mask + 1) * 3:
        count = LEAST if young.slots == NULL else 2 * (<Py_ssize_t>young.mask + 1)
        if not enlarge(young, count):
            return
    at = place_of_tag(young, tag)
    if young.slots[at] == 0:
        young.slots[at] = tag
        young.count += 1
    if young.count >= <Py_ssize_t>(GENERATION * entries):
        forget_all(&ghost.old)
        ghost.old = young[0]
        memset(young, 0, sizeof(Tags))
        # The next one will be as large: to grow step by step is to enter each tag twice.
        enlarge(young, <Py_ssize_t>ghost.old.mask + 1)

# Small values in the files of a host: what each read that finds one, and each write, passes
# through.

from libc.stdint cimport int64_t
from hashlib import blake2b

cdef extern from *:
    """
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <unistd.h>

    /* The bytes in an open file; -1 if it was removed. */
    static inline long long tiered_size(int descriptor)
    {
        struct stat status;
        if (fstat(descriptor, &status) != 0 || status.st_nlink == 0) return -1;
        return (long long)status.st_size;
    }

    /* A shared mapping of a file's first bytes, to be read only; NULL if there can be none. */
    static inline const unsigned char *tiered_map(int descriptor, size_t size)
    {
        void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
        return data == MAP_FAILED ? NULL : data;
    }

    static inline void tiered_unmap(const unsigned char *data, size_t size)
    {
        if (data != NULL) munmap((void *)data, size);
    }

    /* Whoever is killed between two of these leaves the first, and not the second. */
    static inline void tiered_set(long long *at, long long value)
    {
        __atomic_store_n(at, value, __ATOMIC_RELEASE);
    }

    static inline unsigned long long tiered_u64(const unsigned char *at)
    {
        return (unsigned long long)tiered_u32(at) << 32 | tiered_u32(at + 4);
    }
    """
    long long tiered_size(int) noexcept
    const unsigned char* tiered_map(int, size_t) noexcept
    void tiered_unmap(const unsigned char*, size_t) noexcept
    uint64_t tiered_u64(const unsigned char*) noexcept
    void tiered_set(long long*, long long) noexcept
    ssize_t pwrite(int, const void*, size_t, long long) noexcept nogil
    int close(int) noexcept

# As in clients.files.names, packs.lanes, packs.index and packs.records.
cdef enum:
    LANES = 16
    LANE_SHIFT = 4
    LANE_CELLS = 8
    INDEX_CELL = 0
    ACTIVE_CELL = 1
    TAIL_CELL = 2
    BYTES_CELL = 3
    BUSY_CELL = 6
    TABLES_FROM = 512
    INDEX_TAKEN = 2
    INDEX_HEAD = 8
    PLACE_CELLS = 3
    SPOT_LENGTH_BITS = 12
    SPOT_BITS = 32
    SPOT_UNIT = 16
    RECORD_HEAD = 16
    PACK_BITS = 40
    SERIALIZER = 18


cdef object unused_hash = blake2b(digest_size=20)
"""To be copied: that takes less than making one."""


cdef class MappedPack:
    """An open pack, closed with the object. See ``clients.files.packs.files`` for its twin.

    All of it is mapped, with what is not written yet; nobody looks there.
    """

    cdef readonly int descriptor
    cdef const unsigned char* data
    cdef size_t size

    def __cinit__(self, int descriptor, size_t size):
        self.descriptor = descriptor
        self.size = size
        self.data = tiered_map(descriptor, size)

    def __dealloc__(self):
        if self.size:  # else there was none
            tiered_unmap(self.data, self.size)
            close(self.descriptor)


cdef class PackAccess:
    """The usual way to a small value: everything is open, and nothing has changed.

    It has no twin: ``tiered.clients.files.packs.store`` reads and writes whatever this one does
    not.
    """

    cdef readonly dict files
    cdef object _lanes_kept
    cdef object _ticks_kept
    cdef long long* _lanes
    cdef long long _slots
    cdef long long _size
    cdef long long* _tick
    cdef list _kept
    cdef uint64_t* _cells[LANES]
    cdef uint64_t _masks[LANES]
    cdef long long _numbers[LANES]

    def __init__(
        self, long long[::1] lanes, long long slots, long long size,
        long long[::1] ticks, Py_ssize_t tick,
    ):
        cdef int lane
        if slots <= 0 or slots & (slots - 1):
            raise ValueError("slots")
        if lanes.shape[0] < TABLES_FROM + 3 * LANES * slots or not 0 <= tick < ticks.shape[0]:
            raise ValueError("too little memory")
        self._slots, self._size = slots, size
        self.files = {}
        self._lanes_kept, self._ticks_kept = lanes, ticks
        self._lanes = &lanes[0]
        self._tick = &ticks[tick]
        self._kept = [None] * LANES
        for lane in range(LANES):
            self._numbers[lane] = 0

    def attach(self, int lane, long long number, unsigned long long[::1] cells):
        """Read a lane by this index from now on."""
        cdef uint64_t places = <uint64_t>((cells.shape[0] - INDEX_HEAD) // PLACE_CELLS)
        if not 0 <= lane < LANES or places == 0 or places & (places - 1):
            raise ValueError("no such lane, or no index")
        # Made first, and freed last: no Python code can run between the next lines.
        kept = <object>cells
        before = self._kept[lane]
        self._numbers[lane] = number
        self._masks[lane] = places - 1
        self._cells[lane] = <uint64_t*>&cells[0]
        self._kept[lane] = kept

    cdef bint is_attached(self, int lane):
        cdef long long number = self._numbers[lane]
        return number != 0 and number == self._lanes[lane * LANE_CELLS + INDEX_CELL]

    def append(self, int lane, uint64_t tag, bytes record):
        """Write *record* in a lane, whose lock is held, and let its key be found there.

        Returns where the key's value was before, as one number, if the pack there has nothing
        else by now, and has to be removed; 0 if not; -1 if nothing was done, as this is not the
        usual case.
        """
        cdef long long* row = self._lanes + lane * LANE_CELLS
        cdef long long size = PyBytes_GET_SIZE(record)
        cdef const char* data = PyBytes_AS_STRING(record)
        cdef long long number, tail, before, at, table
        cdef uint64_t* cells
        cdef uint64_t mask, where, here
        cdef uint64_t spot
        cdef ssize_t written
        cdef MappedPack pack
        if not 0 <= lane < LANES or row[BUSY_CELL] != 0 or not self.is_attached(lane):
            return -1
        number, tail = row[ACTIVE_CELL], row[TAIL_CELL]
        kept = self._kept[lane]  # what is mapped stays, whatever other threads do
        cells, mask = self._cells[lane], self._masks[lane]
        if number <= 0 or number >> 31 or tail < 0 or tail % SPOT_UNIT or tail + size > self._size:
            return -1  # full, or damaged
        if cells[INDEX_TAKEN] > mask or cells[INDEX_TAKEN] * 4 >= (mask + 1) * 3:
            return -1
        where = tag >> 1
        while True:
            here = INDEX_HEAD + (where & mask) * PLACE_CELLS
            if cells[here] == tag or cells[here] == 0:
                break
            where += 1
            if where - (tag >> 1) > mask:
                return -1
        file = self.files.get(<uint64_t>lane << PACK_BITS | <uint64_t>number)
        if type(file) is not MappedPack:
            return -1
        pack = <MappedPack>file
        tiered_set(row + BUSY_CELL, 1)
        with nogil:  # it may be to a disk
            written = pwrite(pack.descriptor, data, size, tail)
        if written != size or tiered_size(pack.descriptor) < 0:
            tiered_set(row + BUSY_CELL, 0)  # who tries again finds out why
            return -1
        table = LANES * self._slots
        at = TABLES_FROM + lane * self._slots + (number & (self._slots - 1))
        tiered_set(row + TAIL_CELL, tail + size)
        tiered_set(self._lanes + at + table, self._lanes[at + table] + size)
        tiered_set(row + BYTES_CELL, row[BYTES_CELL] + size)
        spot = (
            <uint64_t>number << SPOT_BITS
            | <uint64_t>(tail // SPOT_UNIT) << SPOT_LENGTH_BITS
            | <uint64_t>(size // SPOT_UNIT)
        )
        self._tick[0] += 1
        before = <long long>cells[here + 1] if cells[here] == tag else 0
        tiered_set(<long long*>&cells[here + 2], self._tick[0])
        tiered_set(<long long*>&cells[here + 1], <long long>spot)
        if cells[here] == 0:
            tiered_set(<long long*>&cells[here], <long long>tag)
            tiered_set(<long long*>&cells[INDEX_TAKEN], <long long>cells[INDEX_TAKEN] + 1)
        if before != 0 and not self.is_over(lane, before):
            before = 0
        tiered_set(row + BUSY_CELL, 0)
        return before

    cdef bint is_over(self, int lane, long long packed):
        """Count what was at a spot as dead; whether all of its pack is, and that one is full."""
        cdef long long number = packed >> SPOT_BITS
        cdef long long table = LANES * self._slots
        cdef long long* at = self._lanes + TABLES_FROM + lane * self._slots + (
            number & (self._slots - 1)
        )
        cdef long long size = (packed & ((1 << SPOT_LENGTH_BITS) - 1)) * SPOT_UNIT
        if at[0] != number:
            return False
        tiered_set(at + 2 * table, at[2 * table] + size)
        return at[2 * table] >= at[table] and number != self._lanes[
            lane * LANE_CELLS + ACTIVE_CELL
        ]

    def look(self, bytes name):
        """The envelope of the key with this name, or ``None``: that is no miss yet."""
        cdef const unsigned char* data
        cdef const unsigned char* digest
        cdef uint64_t* cells
        cdef uint64_t tag, at, mask, spot, here, key
        cdef long long length = PyBytes_GET_SIZE(name)
        cdef long long size, start, envelope
        cdef int lane
        cdef bytes hashed, found
        cdef MappedPack pack
        hashing = unused_hash.copy()
        hashing.update(name)
        hashed = hashing.digest()
        digest = <const unsigned char*>PyBytes_AS_STRING(hashed)
        lane = digest[0] >> LANE_SHIFT
        if not self.is_attached(lane):
            return None
        cells, mask = self._cells[lane], self._masks[lane]
        tag = tiered_u64(digest + 8) | 1
        at = tag >> 1
        while True:
            here = INDEX_HEAD + (at & mask) * PLACE_CELLS
            if cells[here] == tag:
                break
            if cells[here] == 0 or at - (tag >> 1) > mask:
                return None
            at += 1
        spot = cells[here + 1]
        if spot == 0:
            return None
        # No Python code runs from here to the end: what was found stays where it is.
        key = <uint64_t>lane << PACK_BITS | spot >> SPOT_BITS
        file = self.files.get(key)
        if type(file) is not MappedPack:
            return None
        pack = <MappedPack>file
        size = (spot & ((1 << SPOT_LENGTH_BITS) - 1)) * SPOT_UNIT
        start = ((spot & 0xFFFFFFFF) >> SPOT_LENGTH_BITS) * SPOT_UNIT
        if pack.data == NULL or size < RECORD_HEAD + length or start + size > <long long>pack.size:
            return None
        # In one call: that the directory is there still, and that the file is not shorter than
        # the mapping, where reading would end the process.
        if tiered_size(pack.descriptor) < start + size:
            return None
        data = pack.data + start
        # Not without the GIL: to get it back would take longer than to copy so little.
        envelope = tiered_u32(data + 8)
        if (
            memcmp(data, b"tPr1", 4) != 0
            or tiered_u32(data + 4) != <uint32_t>length
            or RECORD_HEAD + length + envelope > size
            or memcmp(data + RECORD_HEAD, PyBytes_AS_STRING(name), length) != 0
        ):
            return None
        found = PyBytes_FromStringAndSize(<const char*>data + RECORD_HEAD + length, envelope)
        self._tick[0] += 1
        cells[here + 2] = <uint64_t>self._tick[0]
        return found

    def entry(self, bytes name, Opener opener, double base, double now):
        """The same as an ``Entry``, or ``None``.

        *base* is added to a time to tell it in a file; what was made more than a second after
        *now* is not believed.
        """
        cdef const unsigned char* at
        data = self.look(name)
        if data is None:
            return None
        at = <const unsigned char*>PyBytes_AS_STRING(<bytes>data)
        if PyBytes_GET_SIZE(<bytes>data) < ENVELOPE or at[SERIALIZER] == 0 or at[SERIALIZER] == 64:
            return None  # a manifest, or a sheet, of something else that somebody moved here
        value = opener.payload(name, <bytes>data)
        if value is opener or tiered_f64(at + CREATED) > now + base + 1.0:
            return None
        entry = new_entry(Entry)
        entry.value = value
        entry.deadline = tiered_f64(at + EXPIRES) - base
        return entry

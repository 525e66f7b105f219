# Small values in the files of a host: what each read that finds one passes through.

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

    static inline unsigned long long tiered_u64(const unsigned char *at)
    {
        return (unsigned long long)tiered_u32(at) << 32 | tiered_u32(at + 4);
    }
    """
    long long tiered_size(int) noexcept
    const unsigned char* tiered_map(int, size_t) noexcept
    void tiered_unmap(const unsigned char*, size_t) noexcept
    uint64_t tiered_u64(const unsigned char*) noexcept
    int close(int) noexcept

# As in clients.files.names, packs.lanes, packs.index and packs.records.
cdef enum:
    LANES = 16
    LANE_SHIFT = 4
    LANE_CELLS = 8
    INDEX_HEAD = 8
    PLACE_CELLS = 3
    SPOT_LENGTH_BITS = 12
    SPOT_BITS = 32
    SPOT_UNIT = 16
    RECORD_HEAD = 16
    PACK_BITS = 40


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
        tiered_unmap(self.data, self.size)
        close(self.descriptor)


cdef class PackReader:
    """The usual way of reading a small value: everything is open, and nothing has changed.

    It has no twin: ``tiered.clients.files.packs.store`` reads whatever this one does not.
    """

    cdef readonly dict files
    cdef object _lanes_kept
    cdef object _ticks_kept
    cdef const long long* _lanes
    cdef long long* _tick
    cdef list _kept
    cdef uint64_t* _cells[LANES]
    cdef uint64_t _masks[LANES]
    cdef long long _numbers[LANES]

    def __init__(self, long long[::1] lanes, long long[::1] ticks, Py_ssize_t tick):
        cdef int lane
        if lanes.shape[0] < LANES * LANE_CELLS or not 0 <= tick < ticks.shape[0]:
            raise ValueError("too little memory")
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
        before = self._kept[lane]  # freed last: nobody must come between the next lines
        self._cells[lane] = <uint64_t*>&cells[0]
        self._masks[lane] = places - 1
        self._numbers[lane] = number
        self._kept[lane] = cells

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
        if self._numbers[lane] == 0 or self._numbers[lane] != self._lanes[lane * LANE_CELLS]:
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
        value = opener.payload(name, <bytes>data)
        at = <const unsigned char*>PyBytes_AS_STRING(<bytes>data)
        if value is opener or tiered_f64(at + CREATED) > now + base + 1.0:
            return None
        entry = new_entry(Entry)
        entry.value = value
        entry.deadline = tiered_f64(at + EXPIRES) - base
        return entry

# What each event on a bus passes through: its frame.

from cpython.long cimport PyLong_CheckExact

# The fields of a frame with events, as coherence.wire has them, behind 4 bytes of head:
#   Publish: node (8), epoch (8), first (8), size (4), urgent (1), events
#   Block:   epoch (8), first (8), node (8), serial (8), size (4), urgent (1), events
cdef enum:
    FRAME_HEAD = 4
    PUBLISH_FIELDS = 29  # bytes
    BLOCK_FIELDS = 37
    EVENT_HEAD = 10  # of each event: kind (1), topic (8), length of the name (1)
    LONGEST_NAME = 255

cdef extern from *:
    """
    static inline void tiered_put_u64(unsigned char *at, unsigned long long number)
    {
        tiered_put_u32(at, (unsigned int)(number >> 32));
        tiered_put_u32(at + 4, (unsigned int)number);
    }
    """
    void tiered_put_u64(unsigned char*, unsigned long long) noexcept


cdef class FrameReader:
    """Reads frames with events, whole and signed with the first key; *general* the others.

    See :class:`tiered.coherence.wire.Wire`, which comes to the same.

    Args:
        kind: ``Publish`` or ``Block``.
        head: of their frames.
        blocks: whether *kind* is ``Block``.
        prepared: the first key, or ``None``.
        most_frame, most_events: bytes.
        general: called with what is not usual.
    """

    cdef object _kind, _prepared, _general
    cdef bytes _head
    cdef bint _blocks
    cdef Py_ssize_t _most_frame, _most_events

    def __init__(self, kind, bytes head, bint blocks, prepared, most_frame, most_events, general):
        self._kind = kind
        self._head = head
        self._blocks = blocks
        self._prepared = prepared
        self._most_frame = most_frame
        self._most_events = most_events
        self._general = general

    def __call__(self, frame):
        """The message in *frame*."""
        cdef Py_ssize_t starts = FRAME_HEAD + (BLOCK_FIELDS if self._blocks else PUBLISH_FIELDS)
        cdef Py_ssize_t end, length
        cdef const unsigned char* at
        cdef uint32_t size
        cdef bytes mac
        if type(frame) is not bytes or PyBytes_GET_SIZE(frame) > self._most_frame:
            return self._general(frame)
        at = <const unsigned char*>PyBytes_AS_STRING(frame)
        end = PyBytes_GET_SIZE(frame)
        if self._prepared is not None:
            end -= SIGNATURE
        if end < starts or memcmp(at, PyBytes_AS_STRING(self._head), FRAME_HEAD) != 0:
            return self._general(frame)
        if self._prepared is not None:
            signed = PyBytes_FromStringAndSize(<const char*>at, end)
            mac = digest_of(self._prepared, self._prepared.copy, signed)
            if PyBytes_GET_SIZE(mac) != SIGNATURE or not tiered_same_secret(
                <const unsigned char*>PyBytes_AS_STRING(mac), at + end
            ):
                return self._general(frame)
        length = end - starts
        size = tiered_u32(at + starts - 5)
        if (
            not size
            or length > self._most_events
            or <uint64_t>size * EVENT_HEAD > <uint64_t>length
            or <uint64_t>length > <uint64_t>size * (EVENT_HEAD + LONGEST_NAME)
        ):
            return self._general(frame)
        events = PyBytes_FromStringAndSize(<const char*>at + starts, length)
        urgent = at[starts - 1] != 0
        at += FRAME_HEAD
        if self._blocks:
            node = PyBytes_FromStringAndSize(<const char*>at + 16, 8)
            return new_tuple(
                self._kind,
                (tiered_u64(at), tiered_u64(at + 8), node, tiered_u64(at + 24), size, events, urgent),
            )
        node = PyBytes_FromStringAndSize(<const char*>at, 8)
        return new_tuple(
            self._kind, (node, tiered_u64(at + 8), tiered_u64(at + 16), size, events, urgent)
        )


cdef class FrameWriter:
    """Writes the frames that a :class:`FrameReader` reads; *general* the others.

    Args:
        publish, block: the classes of the messages.
        heads: of their frames, in this order.
        prepared, most_frame, most_events, general: as there.
    """

    cdef object _publish, _block, _prepared, _general
    cdef bytes _publish_head, _block_head
    cdef Py_ssize_t _most_frame, _most_events

    def __init__(self, publish, block, heads, prepared, most_frame, most_events, general):
        self._publish = publish
        self._block = block
        self._publish_head, self._block_head = heads
        self._prepared = prepared
        self._most_frame = most_frame
        self._most_events = most_events
        self._general = general

    def __call__(self, message):
        """The frame of *message*."""
        cdef bint blocks = type(message) is self._block
        cdef Py_ssize_t starts, length
        cdef unsigned long long epoch, first, serial, size
        cdef unsigned char* at
        cdef bytes frame
        if blocks:
            one, other, node, number, count, events, urgent = <tuple>message
            starts = FRAME_HEAD + BLOCK_FIELDS
        elif type(message) is self._publish:
            node, one, other, count, events, urgent = <tuple>message
            starts = FRAME_HEAD + PUBLISH_FIELDS
            number = 0
        else:
            return self._general(message)
        if type(node) is not bytes or type(events) is not bytes or PyBytes_GET_SIZE(node) != 8:
            return self._general(message)
        # Of a float, say, C would take the integer part.
        if not (
            PyLong_CheckExact(one) and PyLong_CheckExact(other)
            and PyLong_CheckExact(number) and PyLong_CheckExact(count)
        ):
            return self._general(message)
        length = PyBytes_GET_SIZE(events)
        try:
            epoch, first, serial, size = one, other, number, count
        except OverflowError:
            return self._general(message)
        if (
            size > 0xFFFFFFFF
            or length > self._most_events
            or starts + length + SIGNATURE > self._most_frame
        ):
            return self._general(message)
        frame = PyBytes_FromStringAndSize(NULL, starts + length)
        at = <unsigned char*>PyBytes_AS_STRING(frame)
        memcpy(at + starts, PyBytes_AS_STRING(events), length)
        at[starts - 1] = 1 if urgent else 0
        tiered_put_u32(at + starts - 5, <uint32_t>size)
        if blocks:
            memcpy(at, PyBytes_AS_STRING(self._block_head), FRAME_HEAD)
            at += FRAME_HEAD
            tiered_put_u64(at, epoch)
            tiered_put_u64(at + 8, first)
            memcpy(at + 16, PyBytes_AS_STRING(node), 8)
            tiered_put_u64(at + 24, serial)
        else:
            memcpy(at, PyBytes_AS_STRING(self._publish_head), FRAME_HEAD)
            at += FRAME_HEAD
            memcpy(at, PyBytes_AS_STRING(node), 8)
            tiered_put_u64(at + 8, epoch)
            tiered_put_u64(at + 16, first)
        if self._prepared is not None:
            frame += digest_of(self._prepared, self._prepared.copy, frame)
        return frame


cdef class EventsReader:
    """Reads packed events of known kinds; *general* what holds any others.

    See ``tiered.coherence.messages._unpacked``, its twin.
    """

    cdef object _event, _general
    cdef list _kinds

    def __init__(self, event, dict kinds, general):
        self._event = event
        self._kinds = [kinds.get(number) for number in range(256)]
        self._general = general

    def __call__(self, size, bytes data not None):
        """The *size* events in *data*."""
        cdef const char* at = PyBytes_AS_STRING(data)
        cdef const char* end = at + PyBytes_GET_SIZE(data)
        cdef Py_ssize_t length, left
        cdef list found = []
        if not 0 <= size <= PyBytes_GET_SIZE(data):
            return self._general(size, data)
        left = size
        while left > 0:
            if end - at < EVENT_HEAD:
                return self._general(size, data)
            kind = self._kinds[<unsigned char>at[0]]
            length = <unsigned char>at[EVENT_HEAD - 1]
            if kind is None or end - at - EVENT_HEAD < length:
                return self._general(size, data)
            topic = PyBytes_FromStringAndSize(at + 1, EVENT_HEAD - 2)
            at += EVENT_HEAD
            name = PyBytes_FromStringAndSize(at, length)
            at += length
            found.append(new_tuple(self._event, (kind, topic, name)))
            left -= 1
        if at != end:
            return self._general(size, data)
        return found

# What each of many values from a server passes through: its key's names, the server's answer,
# and its envelope.

cdef extern from *:
    """
    #include <stdio.h>

    /* Big-endian, as an envelope has them. */
    static inline unsigned int tiered_u32(const unsigned char *at)
    {
        return (unsigned int)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
    }

    static inline void tiered_put_u32(unsigned char *at, unsigned int number)
    {
        at[0] = number >> 24; at[1] = number >> 16; at[2] = number >> 8; at[3] = number;
    }

    static inline void tiered_put_f64(unsigned char *at, double number)
    {
        unsigned long long bits;
        memcpy(&bits, &number, 8);
        tiered_put_u32(at, (unsigned int)(bits >> 32));
        tiered_put_u32(at + 4, (unsigned int)bits);
    }

    static inline void tiered_put_f32(unsigned char *at, float number)
    {
        unsigned int bits;
        memcpy(&bits, &number, 4);
        tiered_put_u32(at, bits);
    }

    static inline double tiered_f64(const unsigned char *at)
    {
        unsigned long long bits = (unsigned long long)tiered_u32(at) << 32 | tiered_u32(at + 4);
        double number;
        memcpy(&number, &bits, 8);
        return number;
    }

    /* In the same time wherever they differ. */
    static inline int tiered_same_secret(const unsigned char *one, const unsigned char *other)
    {
        volatile unsigned char difference = 0;
        for (int at = 0; at < 16; at++) difference |= one[at] ^ other[at];
        return difference == 0;
    }

    /* The length of a short text that a server takes as it is in a key; -1 of any other. */
    static inline Py_ssize_t tiered_plain(PyObject *text, Py_ssize_t longest)
    {
        if (!PyUnicode_IS_COMPACT_ASCII(text)) return -1;
        Py_ssize_t length = PyUnicode_GET_LENGTH(text);
        const unsigned char *data = PyUnicode_DATA(text);
        if (length > longest) return -1;
        for (Py_ssize_t at = 0; at < length; at++)
            if (data[at] < 0x21 || data[at] > 0x7e) return -1;
        return length;
    }

    /* Where the next "\\\\r\\\\n" begins; NULL if there is none before *end*. */
    static inline const char *tiered_line_end(const char *at, const char *end)
    {
        while (at < end - 1) {
            const char *found = memchr(at, '\\r', end - 1 - at);
            if (found == NULL) return NULL;
            if (found[1] == '\\n') return found;
            at = found + 1;
        }
        return NULL;
    }
    """
    uint32_t tiered_u32(const unsigned char*) noexcept
    void tiered_put_u32(unsigned char*, uint32_t) noexcept
    void tiered_put_f64(unsigned char*, double) noexcept
    void tiered_put_f32(unsigned char*, float) noexcept
    double tiered_f64(const unsigned char*) noexcept
    bint tiered_same_secret(const unsigned char*, const unsigned char*) noexcept
    Py_ssize_t tiered_plain(PyObject*, Py_ssize_t) noexcept
    const char* tiered_line_end(const char*, const char*) noexcept
    void* PyUnicode_DATA(object) noexcept

cdef object new_tuple = tuple.__new__
cdef object new_entry = Entry.__new__

# Of a text whose canonical bytes are still readable (keys.wire has the limit, 120, for these).
cdef enum:
    LONGEST_PLAIN = 112

# The envelope, as codec.values lays it out.
cdef enum:
    SIGNATURE = 16
    CREATED = 20
    EXPIRES = 28
    KEEP = 36
    COST = 44
    LENGTH = 48
    ENVELOPE = 52
    LARGE_ENVELOPE = 8192


cdef class KeyNames:
    """The names of keys. See :class:`tiered.keys.wire.PythonKeyNames`, its twin."""

    cdef bytes _signed
    cdef bytes _prefix
    cdef object _general
    cdef object _kind

    def __init__(self, bytes signed, bytes prefix, general, kind):
        self._signed = signed
        self._prefix = prefix
        self._general = general
        self._kind = kind

    def __call__(self, key):
        """The names of *key*."""
        cdef Py_ssize_t length
        cdef bytes name
        if PyUnicode_CheckExact(key):
            length = tiered_plain(<PyObject*>key, LONGEST_PLAIN)
            if length >= 0:
                name = PyBytes_FromFormat(b"s%zd:%s", length, <char*>PyUnicode_DATA(key))
                return new_tuple(self._kind, (self._signed + name, self._prefix + name))
        return self._general(key)

    def sign(self, key):
        """The first of the names of *key* alone."""
        cdef Py_ssize_t length, prefix, digits
        cdef bytes name
        cdef char* at
        if PyUnicode_CheckExact(key):
            length = tiered_plain(<PyObject*>key, LONGEST_PLAIN)
            if length >= 0:
                # As in a call, in one piece: "s", the length, ":", the text.
                prefix = PyBytes_GET_SIZE(self._signed)
                digits = 1 + (length > 9) + (length > 99)
                name = PyBytes_FromStringAndSize(NULL, prefix + 2 + digits + length)
                at = PyBytes_AS_STRING(name)
                memcpy(at, PyBytes_AS_STRING(self._signed), prefix)
                at[prefix] = c's'
                at += prefix + digits
                at[1] = c':'
                memcpy(at + 2, PyUnicode_DATA(key), length)
                while digits:
                    at[0] = c'0' + length % 10
                    at, length, digits = at - 1, length // 10, digits - 1
                return name
        return self._general.sign(key)

    def index(self, keys):
        """By the server's key: each of *keys*, and its names."""
        cdef dict found = {}
        for key in keys:
            name = self(key)
            found[<object>PyTuple_GET_ITEM(name, 1)] = key, name
        return found


def split_items(bytes data, Py_ssize_t at, set asked, dict found):
    """Move items into *found*. See ``tiered.clients.memcached.bulk``, which has the twin."""
    cdef const char* start = PyBytes_AS_STRING(data)
    cdef const char* end = start + PyBytes_GET_SIZE(data)
    cdef const char* here = start + at
    cdef const char* line
    cdef const char* space
    cdef const char* digit
    cdef Py_ssize_t size
    cdef bytes key
    while end - here > 8 and memcmp(here, b"VALUE ", 6) == 0:
        line = tiered_line_end(here, end)
        if line == NULL:
            break
        space = <const char*>memchr(here + 6, b" ", line - here - 6)
        if space == NULL:
            break
        key = PyBytes_FromStringAndSize(here + 6, space - here - 6)
        space = <const char*>memchr(space + 1, b" ", line - space - 1)
        if space == NULL or key not in asked or not 1 < line - space < 12:
            break
        size = 0
        digit = space + 1
        while digit < line and c'0' <= digit[0] <= c'9':
            size = size * 10 + (digit[0] - c'0')
            digit += 1
        if digit != line or end - line < size + 4:
            break
        if line[size + 2] != c'\r' or line[size + 3] != c'\n':
            break
        asked.remove(key)
        if size:  # a stub is no value
            found[key] = PyBytes_FromStringAndSize(line + 2, size)
        here = line + size + 4
    if end - here >= 5 and memcmp(here, b"END\r\n", 5) == 0:
        return here - start + 5, True
    return here - start, False


from tiered.codec.sign import Checksum
from zlib import crc32


cdef bytes digest_of(prepared, copy, bytes signed):
    """What *prepared*, whose copy() is *copy*, makes of *signed*."""
    cdef bytes mac
    cdef uint32_t found
    if type(prepared) is Checksum:
        found = crc32(signed, prepared._sum)
        mac = PyBytes_FromStringAndSize(NULL, SIGNATURE)
        memset(PyBytes_AS_STRING(mac), 0, SIGNATURE)
        tiered_put_u32(<unsigned char*>PyBytes_AS_STRING(mac), found)
        return mac
    digest = copy()
    digest.update(signed)
    return digest.digest()


def seal(prepared, uint32_t kind, header, bytes name, bytes payload):
    """A small envelope. See ``ValueCodec``, which has the twin."""
    cdef double created, expires, keep, cost
    cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
    cdef Py_ssize_t size = ENVELOPE + PyBytes_GET_SIZE(payload)
    cdef bytes signed, sealed, mac
    cdef unsigned char* at
    created, expires, keep, cost = header
    # The name is signed behind the payload, and not part of the envelope.
    signed = PyBytes_FromStringAndSize(NULL, size - SIGNATURE + length)
    at = <unsigned char*>PyBytes_AS_STRING(signed) - SIGNATURE
    tiered_put_u32(at + SIGNATURE, kind)
    tiered_put_f64(at + CREATED, created)
    tiered_put_f64(at + EXPIRES, expires)
    tiered_put_f64(at + KEEP, keep)
    tiered_put_f32(at + COST, <float>cost)
    tiered_put_u32(at + LENGTH, <uint32_t>length)
    memcpy(at + ENVELOPE, PyBytes_AS_STRING(payload), size - ENVELOPE)
    memcpy(at + size, PyBytes_AS_STRING(name), length)
    mac = digest_of(prepared, prepared.copy, signed)
    sealed = PyBytes_FromStringAndSize(NULL, size)
    memcpy(PyBytes_AS_STRING(sealed), PyBytes_AS_STRING(mac), SIGNATURE)
    memcpy(
        PyBytes_AS_STRING(sealed) + SIGNATURE, PyBytes_AS_STRING(signed), size - SIGNATURE
    )
    return sealed


cdef class Opener:
    """Opens envelopes in the usual way: small, whole, signed with the newest key.

    See ``tiered.codec.values``, which has the twin.
    """

    cdef object _prepared
    cdef object _copy
    cdef object _manifest
    cdef dict _readers

    def __init__(self, prepared, dict readers, manifest):
        self._prepared = prepared
        self._copy = prepared.copy
        self._readers = readers
        self._manifest = manifest

    cdef object payload(self, bytes name, bytes data):
        """The value; ``self`` of all that is not usual."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
        cdef double expires
        cdef bytes signed, mac
        if not ENVELOPE <= size < LARGE_ENVELOPE:
            return self
        signed = PyBytes_FromStringAndSize(NULL, size - SIGNATURE + length)
        memcpy(PyBytes_AS_STRING(signed), at + SIGNATURE, size - SIGNATURE)
        memcpy(PyBytes_AS_STRING(signed) + size - SIGNATURE, PyBytes_AS_STRING(name), length)
        mac = digest_of(self._prepared, self._copy, signed)
        if PyBytes_GET_SIZE(mac) != SIGNATURE or not tiered_same_secret(
            <const unsigned char*>PyBytes_AS_STRING(mac), at
        ):
            return self
        expires = tiered_f64(at + EXPIRES)
        if tiered_u32(at + LENGTH) != <uint32_t>length or expires != expires:
            return self
        reader = self._readers.get(tiered_u32(at + SIGNATURE))
        if reader is None:
            return self
        try:
            return reader(PyBytes_FromStringAndSize(<const char*>at + ENVELOPE, size - ENVELOPE))
        except Exception:
            return self

    def open(self, bytes name, bytes data):
        """``(value, created, expires)``, or ``None``."""
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
        value = self.payload(name, data)
        if value is self:
            return None
        return value, tiered_f64(at + CREATED), tiered_f64(at + EXPIRES)

    def open_many(self, dict stored, dict asked, double shift, dict found):
        """Entries for all of *stored* that are usual; the keys of the others."""
        cdef list unusual = []
        cdef bytes data
        for wire, data in stored.items():
            key, names = asked[wire]
            value = self.payload(<bytes?>names[0], data)
            if value is self or type(value) is self._manifest:
                unusual.append(wire)
            else:
                # As Entry(value, deadline) does, without its frame.
                entry = new_entry(Entry)
                entry.value = value
                entry.deadline = shift + tiered_f64(
                    <const unsigned char*>PyBytes_AS_STRING(data) + EXPIRES
                )
                found[key] = entry
        return unusual

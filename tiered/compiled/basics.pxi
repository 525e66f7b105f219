# C declarations: the clock, comparisons that run no Python code, and the hash of a pair.

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_FromFormat,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport Py_EQ, PyObject, PyObject_Hash, PyObject_RichCompareBool
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

import time
from inspect import Parameter

from tiered.entry import ALWAYS, IF_ABSENT, Entry
from tiered.sentinels import MISSING
from tiered.stores.weighing import EXPIRED, SIZE, announce, weigh
from tiered.typing import HotPath

cdef extern from "Python.h":
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    ctypedef int (*inquiry)(PyObject*) noexcept
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
    ctypedef PySendResult (*sendfunc)(PyObject*, PyObject*, PyObject**) except PYGEN_ERROR
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    # What Cython fills in for a class, and a few of its slots need otherwise.
    ctypedef struct TypeSlots "PyTypeObject":
        traverseproc tp_traverse
        inquiry tp_clear
        PyAsyncMethods* tp_as_async
        void* tp_call
        void* tp_descr_get
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset
    void PyType_Modified(TypeSlots*)
    bint PyType_IsSubtype(TypeSlots*, TypeSlots*)

cdef extern from *:
    """
    #include <string.h>
    #include <time.h>

    /* The double that time.monotonic() returns for this moment. */
    static inline double tiered_clock(clockid_t which)
    {
        struct timespec now;
        clock_gettime(which, &now);
        return (double)((long long)now.tv_sec * 1000000000LL + now.tv_nsec) / 1e9;
    }

    #if defined(__linux__) && defined(CLOCK_MONOTONIC_COARSE)
    #define TIERED_OWN_CLOCK 1
    static inline double tiered_exact_time(void) { return tiered_clock(CLOCK_MONOTONIC); }
    static inline double tiered_coarse_time(void) { return tiered_clock(CLOCK_MONOTONIC_COARSE); }
    static inline double tiered_wall_time(void) { return tiered_clock(CLOCK_REALTIME); }
    #else
    #define TIERED_OWN_CLOCK 0
    static inline double tiered_exact_time(void) { return 0.0; }
    static inline double tiered_coarse_time(void) { return 0.0; }
    static inline double tiered_wall_time(void) { return 0.0; }
    #endif

    static inline PyObject **tiered_items(PyObject *tuple)
    {
        return ((PyTupleObject *)tuple)->ob_item;
    }

    /* Both hashed before, and so in their canonical form. */
    static inline int tiered_same_text(PyObject *one, PyObject *other)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(one);
        int kind = PyUnicode_KIND(one);
        return length == PyUnicode_GET_LENGTH(other) && kind == (int)PyUnicode_KIND(other)
            && memcmp(PyUnicode_DATA(one), PyUnicode_DATA(other), (size_t)length * kind) == 0;
    }

    /* The comparison of the type itself, which for int and float runs no Python code. */
    static inline int tiered_same_number(PyObject *one, PyObject *other)
    {
        PyObject *same = Py_TYPE(one)->tp_richcompare(one, other, Py_EQ);
        int answer = same == Py_True;
        Py_XDECREF(same);
        return answer;
    }

    /* 1 or 0, or -1 if only Python code could tell. */
    static int tiered_plainly_equal(PyObject *one, PyObject *other, int depth)
    {
        PyTypeObject *kind = Py_TYPE(one);
        if (one == other)
            return 1;
        if (kind == Py_TYPE(other)) {
            if (kind == &PyUnicode_Type)
                return tiered_same_text(one, other);
            if (kind == &PyLong_Type || kind == &PyFloat_Type)
                return tiered_same_number(one, other);
            if (kind == &PyBytes_Type)
                return PyBytes_GET_SIZE(one) == PyBytes_GET_SIZE(other)
                    && memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other),
                              (size_t)PyBytes_GET_SIZE(one)) == 0;
            if (kind == &PyTuple_Type && depth > 0) {
                Py_ssize_t length = PyTuple_GET_SIZE(one);
                if (length != PyTuple_GET_SIZE(other))
                    return 0;
                for (Py_ssize_t at = 0; at < length; at++) {
                    int same = tiered_plainly_equal(PyTuple_GET_ITEM(one, at),
                                                    PyTuple_GET_ITEM(other, at), depth - 1);
                    if (same != 1)
                        return same;
                }
                return 1;
            }
        }
        else if ((kind == &PyUnicode_Type && Py_TYPE(other) == &PyLong_Type)
                 || (kind == &PyLong_Type && Py_TYPE(other) == &PyUnicode_Type))
            return 0;
        return -1;
    }

    /* CPython's hash of a tuple of two, in two steps (xxHash, since 3.8; see pairs_hash_alike). */
    #define TIERED_P1 11400714785074694791ULL
    #define TIERED_P2 14029467366897019727ULL
    #define TIERED_P5 2870177450012600261ULL
    static inline uint64_t tiered_fold(uint64_t folded, Py_hash_t hash)
    {
        folded += (uint64_t)hash * TIERED_P2;
        folded = (folded << 31) | (folded >> 33);
        return folded * TIERED_P1;
    }
    static inline Py_hash_t tiered_pair_hash(uint64_t folded, Py_hash_t second)
    {
        folded = tiered_fold(folded, second) + (2 ^ (TIERED_P5 ^ 3527539ULL));
        return folded == (uint64_t)-1 ? 1546275796 : (Py_hash_t)folded;
    }
    """
    const int OWN_CLOCK "TIERED_OWN_CLOCK"
    double exact_time "tiered_exact_time"() noexcept
    double coarse_time "tiered_coarse_time"() noexcept
    double wall_time "tiered_wall_time"() noexcept
    PyObject** items_of "tiered_items"(PyObject*) noexcept
    int same_text "tiered_same_text"(PyObject*, PyObject*) noexcept
    int plainly_equal "tiered_plainly_equal"(PyObject*, PyObject*, int depth) noexcept
    const uint64_t UNFOLDED "TIERED_P5"
    uint64_t fold "tiered_fold"(uint64_t folded, Py_hash_t) noexcept
    Py_hash_t pair_hash "tiered_pair_hash"(uint64_t folded, Py_hash_t) noexcept

cdef enum:
    DEPTH = 4  # of nested tuples that are compared here; deeper ones by Python

# Seconds by which the coarse clock is distrusted. Its ticks are 1 to 10 ms, but a host that is
# short of processors can hold up the one that ticks. It costs a quarter of the exact clock, which
# is asked about what ends sooner than that.
cdef double MARGIN = 10.0

cdef inline object owned(PyObject* reference):
    """Take over a new reference."""
    value = <object>reference
    Py_DECREF(value)
    return value


cdef object system_time = time.monotonic


cdef inline bint is_system(object now):
    """Whether *now* is the system's clock, which can be asked without Python."""
    return OWN_CLOCK and now is system_time


cdef inline bint is_ahead(double deadline) noexcept:
    """Whether *deadline* has not passed, by the system's clock."""
    return deadline > coarse_time() + MARGIN or deadline > exact_time()


cdef bint pairs_hash_alike():
    """Whether this interpreter hashes pairs as ``pair_hash`` does."""
    for one, other in (("", 0), ("a", -1), ("namespace@0123", "key"), ("é", (1, 2.5))):
        if hash((one, other)) != pair_hash(fold(UNFOLDED, hash(one)), hash(other)):
            return False
    return True


# Whether keys ``(str, key)`` are kept in two parts: a call's key is then found without making
# the pair of it and its namespace. An interpreter that hashes otherwise keeps them whole.
cdef bint SPLITS = pairs_hash_alike()

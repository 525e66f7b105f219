# The objects that stand where a function stood: called like functions, bound like methods.

cdef extern from *:
    """
    /* Which tells of an error by any number but 0. */
    static inline int tiered_enter_recursion(const char *where)
    {
        return Py_EnterRecursiveCall(where) ? -1 : 0;
    }
    """
    int enter_recursion "tiered_enter_recursion"(const char*) except -1

cdef extern from "Python.h":
    void Py_LeaveRecursiveCall()
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR


cdef class Entrance:
    """An object whose call is a function of its own.

    See :class:`tiered.decorators.entrance.PythonEntrance`, its twin.
    """

    cdef callfunc vectorcall
    cdef object _entered

    def __cinit__(self, *_args, **_options):
        cdef unsigned long wanted = Py_TPFLAGS_HAVE_VECTORCALL
        self.vectorcall = <callfunc>call_entrance
        if isinstance(self, MethodEntrance):
            wanted |= Py_TPFLAGS_METHOD_DESCRIPTOR
        keep_calling(type(self), wanted)

    @property
    def entered(self):
        """What a call does."""
        return self._entered

    @entered.setter
    def entered(self, call):
        self._entered = call

    def __call__(self, *args, **kwargs):
        return self._entered(*args, **kwargs)


cdef object call_entrance(Entrance self, PyObject** args, size_t flags, PyObject* keywords):
    entered = self._entered
    if type(entered) is Door:
        return call_door(<Door>entered, args, flags, keywords)
    enter_recursion(" while calling a cached function")
    try:
        return PyObject_Vectorcall(entered, args, flags, keywords)
    finally:
        Py_LeaveRecursiveCall()


cdef class MethodEntrance(Entrance):
    """An entrance that, in a class, is a method of its objects.

    ``binding(function, instance)`` makes the bound method, where one is asked for; a call
    ``instance.method(...)`` makes none.
    """

    def __get__(self, instance, owner):
        if instance is None:
            return self
        return self.binding(self, instance)


cdef class BoundEntrance:
    """A method entrance with its first argument given."""

    cdef callfunc vectorcall
    cdef readonly object __func__
    cdef readonly object __self__

    def __cinit__(self, function, instance):
        self.vectorcall = <callfunc>call_bound
        keep_calling(type(self), Py_TPFLAGS_HAVE_VECTORCALL)
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, *args, **kwargs):
        return self.__func__(self.__self__, *args, **kwargs)


cdef object call_bound(BoundEntrance self, PyObject** args, size_t flags, PyObject* keywords):
    cdef Py_ssize_t given = PyVectorcall_NARGS(flags)
    cdef Py_ssize_t count = given
    cdef PyObject* few[MOST_PARAMETERS + 1]
    cdef PyObject** many = few
    cdef PyObject* before
    if flags & PY_VECTORCALL_ARGUMENTS_OFFSET:
        # The caller has left room for one argument before the first.
        before = (args - 1)[0]
        (args - 1)[0] = <PyObject*>self.__self__
        try:
            return PyObject_Vectorcall(self.__func__, args - 1, given + 1, keywords)
        finally:
            (args - 1)[0] = before
    if keywords != NULL:
        count += PyTuple_GET_SIZE(<object>keywords)
    if count > MOST_PARAMETERS:
        many = <PyObject**>PyMem_Malloc((count + 1) * sizeof(PyObject*))
        if many == NULL:
            raise MemoryError()
    many[0] = <PyObject*>self.__self__
    memcpy(many + 1, args, count * sizeof(PyObject*))
    try:
        return PyObject_Vectorcall(self.__func__, many, given + 1, keywords)
    finally:
        if many != few:
            PyMem_Free(many)


cdef void call_by(object cls, void* field, void* holder):
    """Let objects of *cls* be called by the function in a *field* of *holder*, as vectorcall."""
    cdef TypeSlots* slots = <TypeSlots*>cls
    slots.tp_vectorcall_offset = <char*>field - <char*>holder
    slots.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL
    PyType_Modified(slots)


# Only the distance of the field is taken: no object is touched.
call_by(Door, &(<Door><PyObject*>None).vectorcall, <PyObject*>None)
call_by(Entrance, &(<Entrance><PyObject*>None).vectorcall, <PyObject*>None)
call_by(MethodEntrance, &(<Entrance><PyObject*>None).vectorcall, <PyObject*>None)
call_by(BoundEntrance, &(<BoundEntrance><PyObject*>None).vectorcall, <PyObject*>None)


(<TypeSlots*>MethodEntrance).tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR


cdef inline int keep_calling(object cls, unsigned long wanted) except -1:
    """Let a subclass made in Python be called like its base, unless it says otherwise.

    CPython does not pass the flags on to classes that are made in Python: vectorcall only from
    3.12, and "method descriptor", by which ``obj.f(x)`` makes no bound method, never.
    """
    if (<TypeSlots*>cls).tp_flags & wanted != wanted:
        adopt(cls, <TypeSlots*>cls)
    return 0


cdef int adopt(object cls, TypeSlots* slots) except -1:
    cdef TypeSlots* method = <TypeSlots*>MethodEntrance
    cdef unsigned long flags = slots.tp_flags
    for kind in cls.__mro__:
        call = kind.__dict__.get("__call__")
        if call is not None:
            break
    if not getattr(call, "is_spoken", kind in (Entrance, BoundEntrance)):
        return 0  # a __call__ of its own
    flags |= Py_TPFLAGS_HAVE_VECTORCALL
    if PyType_IsSubtype(slots, method) and slots.tp_descr_get == method.tp_descr_get:
        flags |= Py_TPFLAGS_METHOD_DESCRIPTOR
    if flags != slots.tp_flags:
        slots.tp_flags = flags
        PyType_Modified(slots)
    return 0

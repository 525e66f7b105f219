# The front door of a cached function, and the objects it stands in.

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object, PyObject**, size_t, PyObject*)
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR
    object PyTuple_New(Py_ssize_t)
    void PyTuple_SET_ITEM(object, Py_ssize_t, PyObject*)

ctypedef object (*callfunc)(object, PyObject**, size_t, PyObject*)

cdef object required = Parameter.empty

cdef enum:
    MOST_PARAMETERS = 16  # of a signature that is bound here


cdef object tuple_of(PyObject** items, Py_ssize_t count):
    made = PyTuple_New(count)
    cdef Py_ssize_t at
    for at in range(count):
        Py_INCREF(<object>items[at])
        PyTuple_SET_ITEM(made, at, items[at])
    return made


cdef object keywords_of(PyObject** values, PyObject* names):
    cdef dict made = {}
    cdef Py_ssize_t at
    if names != NULL:
        for at in range(PyTuple_GET_SIZE(<object>names)):
            made[<object>PyTuple_GET_ITEM(<object>names, at)] = <object>values[at]
    return made


cdef class Revision:
    """The prefix of all keys in a namespace, and until when it is believed.

    See :class:`tiered.clients.revision.PythonRevision`, its twin.
    """

    cdef str _prefix
    cdef uint64_t folded
    cdef public double horizon

    def __cinit__(self):
        self.prefix = ""

    @property
    def prefix(self):
        """The namespace and its revision, an exact ``str``."""
        return self._prefix

    @prefix.setter
    def prefix(self, str prefix not None):
        self._prefix = prefix
        self.folded = fold(UNFOLDED, PyObject_Hash(prefix))


@cython.final
cdef class Door:
    """The front door of a function: a hit in the nearest tier, and *settle* for all else.

    Args:
        path: the ``HotPath`` to a store of this module.
        signature: a ``PlainSignature``, or ``None`` if *keymaker* is needed.
        keymaker: ``keymaker(*args, **kwargs)`` gives the key of a call.
        check: raises the ``TypeError`` of a wrong call.
        settle: ``settle(args, kwargs)`` answers every call that is not a hit.
        now: the clock.
        revision: of the namespace, or ``None``.
        confirmed: whether the revision's horizon matters.
        lead: *settle* is told of what has no more than these seconds left.
        terms: whose ``horizon`` is the lead, where that changes; or ``None``.
        coroutine: answer with awaitables.
    """

    cdef callfunc vectorcall
    cdef Store store
    cdef object keymaker, check, settle, now, terms
    cdef double lead
    cdef Revision revision
    cdef bint system, confirmed, coroutine, single
    cdef Py_ssize_t arity, positional, positional_only, kept_count
    cdef Py_ssize_t kept[MOST_PARAMETERS]
    cdef tuple names, defaults
    cdef readonly unsigned long long hits
    cdef dict __dict__

    def __cinit__(
        self,
        path,
        signature,
        keymaker,
        check,
        settle,
        now,
        Revision revision,
        bint confirmed,
        double lead,
        terms,
        bint coroutine,
    ):
        self.vectorcall = <callfunc>call_door
        self.store = path.store
        self.check = check
        self.settle = settle
        self.now = now
        self.system = is_system(now)
        self.revision = revision
        self.confirmed = confirmed
        self.lead = lead
        self.terms = terms
        self.coroutine = coroutine
        if signature is None or len(signature.names) > MOST_PARAMETERS:
            self.keymaker = keymaker
            return
        self.names = signature.names
        self.defaults = signature.defaults
        self.arity = len(signature.names)
        self.positional = signature.positional
        self.positional_only = signature.positional_only
        self.kept_count = len(signature.kept)
        self.single = self.kept_count == 1
        for at, place in enumerate(signature.kept):
            self.kept[at] = place

    cdef PyObject* hit(
        self, PyObject** args, Py_ssize_t given, PyObject* keywords
    ) except? NULL:
        """A new reference to the fresh value of a call; ``NULL`` for all else."""
        cdef PyObject* bound[MOST_PARAMETERS]
        cdef PyObject** arguments = args
        cdef PyObject* value
        cdef Store store = self.store
        cdef Revision revision
        cdef Wanted wanted
        cdef Py_ssize_t number, at
        cdef double deadline, moment = 0.0, lead = self.lead
        key = None
        if self.keymaker is not None:
            key = PyObject_Vectorcall(self.keymaker, args, given, keywords)
        else:
            if given != self.arity or keywords != NULL or given > self.positional:
                if not self.bind(args, given, keywords, bound):
                    return NULL
                arguments = bound
            if self.single:
                key = <object>arguments[self.kept[0]]
            else:
                key = PyTuple_New(self.kept_count)
                for at in range(self.kept_count):
                    value = arguments[self.kept[at]]
                    Py_INCREF(<object>value)
                    PyTuple_SET_ITEM(key, at, value)
        if self.terms is not None:
            lead = self.terms.horizon
        if not self.system:
            moment = self.now()
        elif self.confirmed:
            moment = exact_time()
        revision = self.revision
        if revision is None:
            want(<PyObject*>key, &wanted)
            number = store.find(&wanted)
        elif SPLITS:
            prefix = revision._prefix  # held: comparing keys may run a clear()
            want_pair(<PyObject*>prefix, revision.folded, <PyObject*>key, &wanted)
            number = store.find(&wanted)
        else:
            key = (revision._prefix, key)
            want(<PyObject*>key, &wanted)
            number = store.find(&wanted)
        if number < 0:
            return NULL
        deadline = store.cells[number].deadline - lead
        if self.confirmed and not moment < revision.horizon:
            return NULL
        if not (deadline > moment if self.confirmed or not self.system else is_ahead(deadline)):
            return NULL
        store.use(<uint32_t>number)
        self.hits += 1
        value = store.cells[number].value
        Py_INCREF(<object>value)
        return value

    cdef bint bind(
        self, PyObject** args, Py_ssize_t given, PyObject* keywords, PyObject** bound
    ) noexcept:
        """The arguments in the order of the signature; ``False`` for what needs Python to judge."""
        cdef Py_ssize_t at, which
        cdef PyObject* name
        if given > self.positional:
            return False
        for at in range(self.arity):
            bound[at] = args[at] if at < given else NULL
        if keywords != NULL:
            for which in range(PyTuple_GET_SIZE(<object>keywords)):
                name = <PyObject*>PyTuple_GET_ITEM(<object>keywords, which)
                at = self.place_of(name)
                if at < 0 or bound[at] != NULL:
                    return False
                bound[at] = args[given + which]
        for at in range(self.arity):
            if bound[at] == NULL:
                bound[at] = <PyObject*>PyTuple_GET_ITEM(self.defaults, at)
                if bound[at] == <PyObject*>required:
                    return False
        return True

    cdef Py_ssize_t place_of(self, PyObject* name) noexcept:
        """Of the parameter *name* that can be given by name; or -1."""
        cdef Py_ssize_t at
        for at in range(self.positional_only, self.arity):
            if <PyObject*>PyTuple_GET_ITEM(self.names, at) == name:
                return at
        for at in range(self.positional_only, self.arity):
            if plainly_equal(<PyObject*>PyTuple_GET_ITEM(self.names, at), name, 0) == 1:
                return at
        return -1


cdef object call_door(Door self, PyObject** args, size_t flags, PyObject* keywords):
    """The call of a door."""
    cdef Py_ssize_t given = PyVectorcall_NARGS(flags)
    cdef PyObject* found
    try:
        found = self.hit(args, given, keywords)
    except Exception:
        # A key that cannot be made, hashed or compared: settle it.
        found = NULL
    if found != NULL:
        return ready(owned(found)) if self.coroutine else owned(found)
    if self.coroutine:
        # A wrong call raises now, as that of any coroutine function, not when it is awaited.
        PyObject_Vectorcall(self.check, args, given, keywords)
    return self.settle(tuple_of(args, given), keywords_of(args + given, keywords))


cdef class Entrance:
    """An object whose call is a function of its own.

    See :class:`tiered.decorators.entrance.PythonEntrance`, its twin.
    """

    cdef callfunc vectorcall
    cdef object _entered

    def __cinit__(self, *_args, **_options):
        self.vectorcall = <callfunc>call_entrance
        keep_calling(type(self), <TypeSlots*>Entrance)

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
    if type(self._entered) is Door:
        return call_door(<Door>self._entered, args, flags, keywords)
    return PyObject_Vectorcall(self._entered, args, flags, keywords)


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
        keep_calling(type(self), <TypeSlots*>BoundEntrance)
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


cdef inline void keep_calling(object cls, TypeSlots* base):
    """Let a subclass made in Python be called like its *base*.

    CPython passes the flags on from 3.12 (vectorcall) or not at all (method descriptor), since
    a class may define the method anew; here only where it has not.
    """
    cdef TypeSlots* slots = <TypeSlots*>cls
    cdef TypeSlots* method = <TypeSlots*>MethodEntrance
    if slots.tp_flags & Py_TPFLAGS_HAVE_VECTORCALL or slots.tp_call != base.tp_call:
        return
    slots.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL
    if PyType_IsSubtype(slots, method) and slots.tp_descr_get == method.tp_descr_get:
        slots.tp_flags |= Py_TPFLAGS_METHOD_DESCRIPTOR
    PyType_Modified(slots)

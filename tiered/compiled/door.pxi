# The front door of a cached function.

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t) noexcept
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object, PyObject**, size_t, PyObject*)
    object PyVectorcall_Call(object, object, object)
    object PyTuple_New(Py_ssize_t)
    void PyTuple_SET_ITEM(object, Py_ssize_t, PyObject*)

ctypedef object (*callfunc)(object, PyObject**, size_t, PyObject*)

cdef object required = Parameter.empty

cdef enum:
    MOST_PARAMETERS = 16  # of a signature that is bound here

most_parameters = MOST_PARAMETERS


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


cdef class Revision(Lease):
    """The prefix of all keys in a namespace, and until when it is believed.

    See :class:`tiered.clients.revision.PythonRevision`, its twin.
    """

    cdef str _prefix
    cdef uint64_t folded

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

    Calls of coroutine functions give a :class:`CachedCall`, which does the same when it is
    awaited.

    Args:
        path: the ``HotPath`` to a store of this module.
        signature: a ``PlainSignature`` of up to ``most_parameters``, or ``None``.
        keymaker: ``keymaker(*args, **kwargs)`` gives the key of a call; ``None`` where the
            signature does.
        check: raises the ``TypeError`` of a wrong call; for coroutine functions.
        settle: ``settle(args, kwargs)`` answers every call that is not a hit; of a coroutine
            function, with a coroutine.
        now: the clock.
        revision: of the namespace that keys begin with, or ``None``.
        inner: of the namespaces in it, the nearest to the function first.
        confirmed: whether their horizons matter.
        lead: *settle* is told of what has no more than these seconds left.
        terms: whose ``horizon`` is the lead, where that changes; or ``None``.
        coroutine: answer with calls to be awaited.
    """

    cdef callfunc vectorcall
    cdef Store store
    cdef object keymaker, check, settle, now, terms
    cdef double lead
    cdef Revision revision
    cdef list inner
    cdef Lease lease
    cdef bint system, confirmed, exact, coroutine, single
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
        list inner not None,
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
        self.inner = inner or None
        self.confirmed = confirmed
        self.lease = path.lease
        self.exact = confirmed or self.lease is not None  # a horizon is met to the moment
        self.lead = lead
        self.terms = terms
        self.coroutine = coroutine
        self.keymaker = keymaker
        if signature is None:
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

    def __call__(self, *args, **kwargs):
        # For those who look for it; a call takes the field above.
        return PyVectorcall_Call(self, args, kwargs)

    cdef PyObject* look(
        self, PyObject** args, Py_ssize_t given, PyObject* keywords
    ) except? NULL:
        """:meth:`hit`, where a key that cannot be made, hashed or compared is none."""
        try:
            return self.hit(args, given, keywords)
        except Exception:
            return NULL

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
        elif self.exact:
            moment = exact_time()
        # In this order: a prefix that is read while it is not believed may be an old one.
        if self.inner is not None:
            for revision in self.inner:
                if self.confirmed and not moment < revision.horizon:
                    return NULL
                key = (revision._prefix, key)
        revision = self.revision
        if self.confirmed and not moment < revision.horizon:
            return NULL
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
        if self.lease is not None and not moment < self.lease.horizon:
            return NULL
        if not (deadline > moment if self.exact or not self.system else is_ahead(deadline)):
            return NULL
        store.use(<uint32_t>number)
        self.hits += 1
        value = store.cells[number].value
        Py_INCREF(<object>value)
        return value

    cdef bint fits(self, PyObject** args, Py_ssize_t given, PyObject* keywords) noexcept:
        """Whether the function takes these arguments, as far as that can be told without Python."""
        cdef PyObject* bound[MOST_PARAMETERS]
        if self.keymaker is not None:
            return False
        if given == self.arity and keywords == NULL and given <= self.positional:
            return True
        return self.bind(args, given, keywords, bound)

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
    if self.coroutine:
        return call_later(self, args, given, keywords)
    found = self.look(args, given, keywords)
    if found != NULL:
        return owned(found)
    return self.settle(tuple_of(args, given), keywords_of(args + given, keywords))

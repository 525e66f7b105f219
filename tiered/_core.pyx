# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""The compiled core: stores, the front door, and what else a hit passes through.

Optional: each class here has a twin in Python with the same behaviour, which is used where
this module could not be built, or ``TIERED_PURE`` is set. ``tiered.acceleration`` chooses.

One rule keeps it correct without locks. Keys, values and callbacks may run any Python code
when they are hashed, compared or freed: use this very cache, raise, switch threads. So work
is cut into stretches in which no Python code can run, and the structure is whole at the end
of each. What was learnt before such code ran is not believed after it: an index is used at
once or looked up again, and what is taken out is freed last. The GIL does the rest; on an
interpreter without one, this module is not loaded.

The parts, in the order of their dependence:

==================  ====================================================================
``basics.pxi``      C declarations: the clock, safe comparisons, the hash of a pair
``index.pxi``       numbers of cells by the tags in these
``table.pxi``       the hash table of cells in raw memory
``stores.pxi``      the store protocol on that table
``ghost.pxi``       the tags of what was evicted lately
``policies.pxi``    LRU and S3-FIFO
``near.pxi``        ``get`` of clients whose nearest tier is such a store
``door.pxi``        the front door of a cached function
``awaited.pxi``     a call of a cached coroutine function
``entrance.pxi``    the objects that stand where a function stood
``remote.pxi``      what each value from a server passes through
``packs.pxi``       what each small value in a host's files passes through
``generations.pxi`` who works on a key just now
``ledger.pxi``      what is held of what others may change
``frames.pxi``      what each event on a bus passes through
``datagrams.pxi``   what the processes of a host tell each other
``region.pxi``      what the calls of a region's functions look into
==================  ====================================================================
"""

include "compiled/basics.pxi"
include "compiled/index.pxi"
include "compiled/table.pxi"
include "compiled/stores.pxi"
include "compiled/ghost.pxi"
include "compiled/policies.pxi"
include "compiled/near.pxi"
include "compiled/door.pxi"
include "compiled/awaited.pxi"
include "compiled/entrance.pxi"
include "compiled/remote.pxi"
include "compiled/packs.pxi"
include "compiled/generations.pxi"
include "compiled/ledger.pxi"
include "compiled/frames.pxi"
include "compiled/datagrams.pxi"
include "compiled/region.pxi"

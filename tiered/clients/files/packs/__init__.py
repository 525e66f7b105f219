"""Small values, many to a file, found by an index in shared memory.

A file for each value costs several calls of the kernel to read and a dozen to write, and takes
a whole block. Below :data:`~tiered.clients.files.packs.lanes.PACKED_UP_TO` bytes that is most
of the cost. So small values are appended to *packs*, files of some hundred kilobytes, and an
index that all processes have mapped tells where each key's newest one lies.
"""

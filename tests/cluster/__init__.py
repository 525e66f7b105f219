"""A cluster in one thread: the coherence protocol under faults, on a clock moved by hand."""

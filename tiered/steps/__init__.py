"""What a cached call does, as steps; and who performs them: a thread, a pool, an event loop."""

"""Which server holds a key, and whether it can be asked just now."""

"""From a call's arguments to a key, from a key to canonical bytes, from those to a wire key."""

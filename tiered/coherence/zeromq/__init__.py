"""The bus over ZeroMQ: the only modules that know it."""

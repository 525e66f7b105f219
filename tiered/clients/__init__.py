"""Cache clients: one interface over memory, servers, and clients made of clients."""

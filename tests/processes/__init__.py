"""Real processes and servers, with no times to keep: run beside other tests."""

"""The fuzzing of the stores, the clients and the front doors with keys and values that misbehave.

``python -m tests.fuzz.driver --help`` tells how to run it by hand; ``make memcheck`` runs
it under checkers of memory.
"""

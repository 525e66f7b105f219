"""Nodes of a coherent cache in processes of their own, what is done to them, and a checker."""

"""Keeping the private tiers of many processes in step over ZeroMQ; its place in the layers."""

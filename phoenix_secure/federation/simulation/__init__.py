"""Simulation: a whole federation in one process."""

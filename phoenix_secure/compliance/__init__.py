"""The report of a run: what was declared, derived, measured, and what is missing; signed.

A pure function of the run's folder. Whoever builds or checks it needs neither torch nor Flower.
How to read and verify it: ``docs/compliance.md``.
"""

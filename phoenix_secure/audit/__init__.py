"""``python -m phoenix_secure.audit``: attack a model as an adversary would, and say what was found.

The only part of the application that imports ``attacks``. A plan is written and hashed before the
first score exists; the verdict is "leak found", "none found at this detectable effect" or
"inconclusive", and never "private". How to read it: ``docs/audit.md``.
"""

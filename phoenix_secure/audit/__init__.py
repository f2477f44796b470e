"""``python -m phoenix_secure.audit``: attack a model as an adversary would, and say what was found.

It is the only part of the application that imports ``attacks``. A plan is written and hashed before
the first score exists. The verdict is "leak found", "no leak detected (minimum detectable AUC ...)"
or "inconclusive", and never "private". How to read it: ``docs/audit.md``.
"""

"""``python -m phoenix_secure.audit``: attack a model as an adversary would, and say what was found.

It is the only part of the application that imports ``attacks``. A plan is written and hashed before
the first score exists. The verdict is "leak found", "no leak detected (minimum detectable AUC ...)"
or "inconclusive", and never "private". How to read it: ``docs/audit.md``.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """``phoenix_secure.audit`` names this package and the function of the Python interface.

    Whichever of both was imported first, ``phoenix_secure.audit(...)`` audits.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        # The function lies above this layer: it is looked up, not imported.
        audit = importlib.import_module("phoenix_secure.api.attacks").audit
        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage

"""``python -m phoenix_secure.audit ...`` is ``phoenix-secure audit ...``."""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    # The command line lies above this layer: it is started, not imported.
    sys.argv = ["phoenix-secure", "audit", *sys.argv[1:]]
    runpy.run_module("phoenix_secure", run_name="__main__")

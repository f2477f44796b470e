"""Makes ``networks.py`` importable beside the tests, as the module ``privacy_networks``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "privacy_networks"
if _NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).with_name("networks.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[_NAME])

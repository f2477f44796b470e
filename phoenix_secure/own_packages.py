"""Where ``protocol`` and ``attacks`` are imported from: beside this package, and nowhere else.

Their names are common words, and Python looks into the working folder first: a stray
``protocol.py`` there would stand in for the secure aggregation. A finder ahead of ``sys.path``
rules that out, and a module that was loaded from elsewhere before us is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["OwnPackages"]


class OwnPackages:
    """Finds ``protocol`` and ``attacks`` in ``folder`` (a meta path finder)."""

    names = ("protocol", "attacks")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of that name in our folder; None for every other name."""
        return PathFinder.find_spec(name, [str(self.folder)]) if name in self.names else None

    def install(self) -> None:
        """Go before every other finder.

        Raises:     ImportError when another module already stands under one of our names.
        """
        for name in self.names:
            loaded = getattr(sys.modules.get(name), "__file__", None)
            if name in sys.modules and (
                loaded is None or self.folder not in Path(loaded).resolve().parents
            ):
                raise ImportError(
                    f"a module {name} from {loaded} is loaded in place of Phoenix Secure's own: "
                    "import phoenix_secure first, or rename that file"
                )
        if not any(isinstance(finder, OwnPackages) for finder in sys.meta_path):
            sys.meta_path.insert(0, self)

"""Sets of sites by how many sites lie in each part of their Venn diagram, for Z3.

What a rule says about quorums depends on nothing but these numbers. A statement about them
therefore holds for federations of every size at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import z3


class SiteCounts:
    """An unknown number of sites for each combination of ``names``.

    possible   leaves out combinations that cannot be, such as a signer outside the cohort
    """

    def __init__(
        self, names: Sequence[str], *, possible: Callable[[SimpleNamespace], bool] = lambda s: True
    ) -> None:
        kinds = [
            SimpleNamespace(**dict(zip(names, bits, strict=True)))
            for bits in itertools.product((False, True), repeat=len(names))
        ]
        self._counts = {
            z3.Int("+".join(name for name in names if getattr(kind, name)) or "others"): kind
            for kind in kinds
            if possible(kind)
        }

    @property
    def facts(self) -> list[z3.BoolRef]:
        """No part holds less than no site."""
        return [count >= 0 for count in self._counts]

    def size(self, belongs: Callable[[SimpleNamespace], bool]) -> z3.ArithRef:
        """The number of sites for which ``belongs`` holds."""
        return z3.Sum([z3.IntVal(0), *(n for n, kind in self._counts.items() if belongs(kind))])

    def none(self, belongs: Callable[[SimpleNamespace], bool]) -> z3.BoolRef:
        """No site for which ``belongs`` holds."""
        return self.size(belongs) == 0

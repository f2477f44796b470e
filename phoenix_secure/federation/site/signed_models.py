"""Which sites a sum may be over when two plans train one model: one promise for all plans.

Each plan has a record of its own (``promises``). Two plans with the same start train the same model
in their first round, and two sums of it over different sites could be subtracted. What is left of
the others is then the difference of two trainings each, since a site's randomness is of one plan
(``own_randomness``); few or large steps hardly differ. So a model that was signed under one plan is
signed under another one over the same sites only.

Two models that differ are two trainings: nothing is promised between them.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phoenix_secure.journal import Journal, create_file, kind_codec

__all__ = ["SignedModels", "parameters_hash"]

_log = logging.getLogger(__name__)


def parameters_hash(parameters: np.ndarray) -> str:
    """SHA-256 of a model (d,) float32, without the round that it is trained in."""
    return hashlib.sha256(np.ascontiguousarray(parameters, "<f4").data).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Signed:
    """The survivors, by their digest, that a site signed for one model under one plan."""

    model: str
    plan: str
    survivors: str


class SignedModels:
    """The file at ``path``, of all plans of one site. Atomic over threads and processes."""

    def __init__(self, path: Path) -> None:
        codec = kind_codec({"signed-model": _Signed})
        self._journal: Journal[_Signed] = Journal(path, codec, follow=self._follow)
        self._signed: dict[str, list[_Signed]] = {}

    @classmethod
    def open(cls, path: Path) -> SignedModels:
        """The file at ``path``; the first use makes it."""
        if not path.exists():
            create_file(path)
        return cls(path)

    def sign(self, *, model: str, plan: str, survivors: str) -> bool:
        """Record a signature about to be given; False where one under another plan forbids it."""
        found = _Signed(model=model, plan=plan, survivors=survivors)
        with self._journal.caught_up():
            known = self._signed.get(model, [])
            other = [each for each in known if each.plan != plan and each.survivors != survivors]
            if other:
                _log.warning(
                    "plan %s trains a model that was signed under plan %s over other sites: the "
                    "server has to propose it with another seed",
                    plan[:16],
                    other[0].plan[:16],
                )
                return False
            if found not in known:
                self._journal.append(found)
            return True

    def _follow(self, record: _Signed) -> None:
        self._signed.setdefault(record.model, []).append(record)

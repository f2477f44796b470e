"""The state that a site keeps from round to round, in a folder of its own.

::

    round-000012.safetensors    personal parameters and their average after the site's work in
                                round 12, failures in a row, whether it refused the round; under
                                control variates the round's start and the site's own move

A round that is repeated starts from what was remembered before it, so that a resumed run is the
same run. Nothing in this folder ever leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.heterogeneity.control_variates import Moved
from phoenix_secure.files import storage_errors, write_bytes

__all__ = ["Memory", "Remembered"]

_FORMAT = "phoenix-secure/site-memory/v1"
_FIELDS = {"personal": np.float32, "personal_ema": np.float32, "counts": np.int64}
_MOVED = ("moved_start", "moved_own")


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """A site's state after its work in ``round_number``.

    Shape:      personal, personal_ema (p,) float32.
    """

    round_number: int
    personal: np.ndarray
    personal_ema: np.ndarray
    num_updates: int = 0  # rounds in which the site trained, this one included
    failures: int = 0  # in a row
    refused: bool = False
    moved: Moved | None = None

    def __repr__(self) -> str:
        return f"<Remembered after round {self.round_number}>"


class Memory:
    """The folder of one site in one run; the newest ``keep`` rounds stay in it."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def before(self, round_number: int) -> Remembered | None:
        """The newest state from before ``round_number``.

        Raises:     CheckpointError for a damaged file.
        """
        earlier = [number for number in self._rounds() if number < round_number]
        return self._read(earlier[-1]) if earlier else None

    def of(self, round_number: int) -> Remembered | None:
        """The state after exactly ``round_number``.

        Raises:     CheckpointError for a damaged file.
        """
        return self._read(round_number) if round_number in self._rounds() else None

    def save(self, state: Remembered) -> None:
        """Keep ``state`` in one step, then drop what is older than the newest ``keep``."""
        counts = np.array(
            [state.round_number, state.num_updates, state.failures, state.refused], np.int64
        )
        fields = {
            "personal": state.personal,
            "personal_ema": state.personal_ema,
            "counts": counts,
        }
        if state.moved is not None:
            fields |= dict(zip(_MOVED, (state.moved.start, state.moved.own), strict=True))
        path = self._path(state.round_number)
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for leftover in self._folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        write_bytes(path, save(fields, metadata={"format": _FORMAT}), mode=0o600)
        for number in self._rounds()[: -self._keep]:
            self._path(number).unlink(missing_ok=True)

    def forget_after(self, round_number: int) -> None:
        """Drop rounds that the run is about to repeat."""
        for number in self._rounds():
            if number > round_number:
                self._path(number).unlink(missing_ok=True)

    def _rounds(self) -> list[int]:
        names = (path.stem.removeprefix("round-") for path in self._folder.glob("round-*.safe*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:06d}.safetensors"

    def _read(self, round_number: int) -> Remembered:
        path = self._path(round_number)
        try:
            with safe_open(path, framework="numpy") as file:
                if (file.metadata() or {}).get("format") != _FORMAT:
                    raise ValueError("expected a site's memory")
                fields = {name: file.get_tensor(name) for name in _FIELDS}
                has_moved = _MOVED[0] in file.keys()  # noqa: SIM118 - a handle, no mapping
                moves = [file.get_tensor(name) for name in _MOVED] if has_moved else []
            if any(fields[name].dtype != kind for name, kind in _FIELDS.items()):
                raise ValueError("expected other types")
            number, num_updates, failures, refused = (int(count) for count in fields["counts"])
            vectors = fields["personal"], fields["personal_ema"]
            if number != round_number or min(num_updates, failures, refused) < 0:
                raise ValueError("expected counts of this round")
            if vectors[0].shape != vectors[1].shape or vectors[0].ndim != 1:
                raise ValueError("expected two vectors")
            if any(each.dtype != np.float32 or each.shape != moves[0].shape for each in moves):
                raise ValueError("expected two vectors of moves")
            if not all(np.isfinite(vector).all() for vector in (*vectors, *moves)):
                raise ValueError("expected finite parameters")
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged: delete it, and the site goes on from its round before"
            ) from error
        return Remembered(
            round_number=number,
            personal=vectors[0],
            personal_ema=vectors[1],
            num_updates=num_updates,
            failures=failures,
            refused=bool(refused),
            moved=Moved(start=moves[0], own=moves[1]) if moves else None,
        )

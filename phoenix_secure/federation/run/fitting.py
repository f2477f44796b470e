"""A generator that a run's server fits, kept in ``generator/`` of the run's folder: the steps on
the way, so that a run that was killed goes on with them, and the result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from phoenix_secure.federation.round.report import FitReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import write_bytes
from phoenix_secure.release.fitting import GeneratorFit
from phoenix_secure.release.generator import DESCRIPTION, FittedGenerator, load_generator

__all__ = ["generator_folder", "kept_generator", "run_fit", "state_digest"]

_FIT = "fit.safetensors"
_REPORT_EVERY = 50
_KEEP_EVERY = 200


def generator_folder(folder: RunFolder) -> Path:
    """Where a run's generator is kept, and its fit on the way."""
    return folder.path / "generator"


def kept_generator(folder: RunFolder, *, device: torch.device) -> FittedGenerator | None:
    """The generator that was kept; None without.

    Raises:     CheckpointError for a damaged one.
    """
    path = generator_folder(folder)
    return load_generator(path, device=device) if (path / DESCRIPTION).exists() else None


def state_digest(state: ServerState) -> str:
    """SHA-256 of what the server has from the sites, which a fit follows from."""
    return hashlib.sha256(state.parameters.astype("<f4").tobytes()).hexdigest()


def run_fit(fit: GeneratorFit, folder: RunFolder, *, of: str, what: str) -> Iterator[FitReport]:
    """All steps that are left of ``fit``, kept on the way; ``of`` names what is fitted to. The
    network is ready to sample then, and whoever keeps its generator takes the place of the fit."""
    kept = generator_folder(folder) / _FIT
    fit.restore(kept, of=of)
    started = time.perf_counter()
    while fit.step < fit.num_steps:
        loss = fit.advance()
        if fit.step % _KEEP_EVERY == 0:
            write_bytes(kept, fit.to_bytes(of=of))
        if fit.step % _REPORT_EVERY == 0 or fit.step in (1, fit.num_steps):
            yield FitReport(
                what=what,
                step=fit.step,
                num_steps=fit.num_steps,
                loss=loss,
                seconds=time.perf_counter() - started,
            )
    fit.finish()

"""The steps of a generator's fit, kept on the way so that a run that was killed goes on with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.federation.round.report import FitReport
from phoenix_secure.files import write_bytes
from phoenix_secure.release.fitting import GeneratorFit

__all__ = ["KEPT_FIT", "run_fit"]

KEPT_FIT = "fit.safetensors"
_REPORT_EVERY = 50
_KEEP_EVERY = 200


def run_fit(fit: GeneratorFit, kept: Path, *, of: str, what: str) -> Iterator[FitReport]:
    """All steps that are left of ``fit``; ``kept`` is its file on the way, and ``of`` names what is
    fitted to. The network is ready to sample then."""
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

"""A pooled audit at the end of a run: plan, sums, report, each in the evidence before what follows.

Who makes plan and report of the counts comes from above: this module knows no attack.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from phoenix_secure.errors import DataError, TrainingError
from phoenix_secure.evidence import Event
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.backend import Backend
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.model_chain import ModelChain
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.pooled_audit import PooledSum, PooledSums
from phoenix_secure.files import sha256_of
from phoenix_secure.privacy.guarantee import Guarantee

__all__ = ["PooledAuditor", "audit_at_sites"]

_log = logging.getLogger(__name__)


class PooledAuditor(Protocol):
    """Plan and report of a pooled audit (``phoenix_secure.audit.pooled``)."""

    @property
    def terms(self) -> dict[str, Any]:
        """What is fixed before training."""
        ...

    def plan(self, *, target_sha256: str, guarantee: Guarantee) -> str:
        """The SHA-256 of the plan for one model, before any score is known."""
        ...

    def write(
        self,
        found: PooledSum,
        *,
        target_sha256: str,
        guarantee: Guarantee,
        sample: Callable[[int], np.ndarray],
        seconds: float,
        out: Path,
    ) -> Path:
        """Write the report of ``found`` into the folder ``out``; returns ``audit.json``.

        sample   draws images (N, C, H, W) float32 in [-1, 1] from the model

        Raises:     DataError where the counts allow no figure.
        """
        ...


def audit_at_sites(
    backend: Backend,
    auditor: PooledAuditor,
    *,
    engine: Engine,
    party: ServerParty,
    chain: ModelChain,
    folder: RunFolder,
    state: ServerState,
    evidence: RunEvidence,
    begin: Callable[[], object],
    epoch: Callable[[], RoundEpoch],
) -> Iterator[StageReport]:
    """Let the sites of ``engine`` audit the final ``state``, once.

    begin   looks up the roster in force, which ``epoch`` then is

    An audit that fails leaves the run as it is: the log and the evidence say so, and ``resume``
    tries again.
    """
    if any("transcript" in entry.facts for entry in evidence.of(Event.AUDITED)):
        return
    started, target = time.perf_counter(), chain.base.digest.hex()
    guarantee = backend.guarantee(folder)
    plan = auditor.plan(target_sha256=target, guarantee=guarantee)
    planned = [entry.facts.get("sha256") for entry in evidence.of(Event.AUDIT_PLANNED)]
    if planned[-1:] != [plan]:
        evidence.audit_planned(stage="plan", sha256=plan, target_sha256=target)
    excluded = {
        site: f"excluded: {each.reason}"
        for site, each in SecureJournal(folder.server_rounds).excluded.items()
    }

    def present() -> RoundEpoch:
        found = epoch()
        return dataclasses.replace(found, removed={**excluded, **found.removed})

    def sample(num_images: int) -> np.ndarray:
        backend.model.use(state)
        return backend.model.sample(num_images, purpose="evaluation")

    try:
        begin()
        sums = PooledSums(
            backend.config,
            engine=engine,
            party=party,
            chain=chain,
            folder=folder.server_rounds.parent,
            timeouts=backend.timeouts,
            epoch=present,
        )
        found = yield from sums.run()
        file = auditor.write(
            found,
            target_sha256=target,
            guarantee=guarantee,
            sample=sample,
            seconds=time.perf_counter() - started,
            out=folder.path / "audit",
        )
    except (TrainingError, DataError) as error:
        _log.warning("no pooled audit: %s; `resume` tries again", error)
        evidence.audit_failed(plan, kind=type(error).__name__)
        return
    evidence.audited(
        file=file.relative_to(folder.path).as_posix(),
        sha256=sha256_of(file),
        sites=list(found.sites),
        missing=dict(sorted(found.failures.items())),
        transcript=found.transcript,
    )

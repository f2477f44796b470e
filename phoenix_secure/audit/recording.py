"""An audit in its run's ledger: terms before training, plan before scores, the result."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.suite import Request
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.evidence import Event
from phoenix_secure.federation.run.evidence import RunEvidence, ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.keys import RunKeys, read_identity
from phoenix_secure.federation.server.recorded_round import Witnesses
from phoenix_secure.federation.simulation.parties import local_witnesses
from phoenix_secure.files import sha256_of
from protocol import SERVER

__all__ = ["AuditRecords"]

_PATIENCE_S = 10.0


class AuditRecords:
    """Writes the audits of one run into its ledger.

    locked   whether the caller holds the run's lock already; else each entry takes it

    Raises:     ConfigError while another process works in the folder; CheckpointError or
                EvidenceError when keys or ledger were changed.
    """

    def __init__(self, folder: RunFolder, *, locked: bool) -> None:
        self._folder = folder
        self._locked = locked

    @classmethod
    def of(cls, folder: RunFolder, *, locked: bool = False) -> AuditRecords | None:
        """None where they cannot be written: the ledger, or the server's key, lies elsewhere or
        may not be used (a copy of the run, a folder that can only be read)."""
        ledger = ledger_file(folder.path)
        try:
            read_identity(folder.path / "server" / "identity.key", id=SERVER)
        except (CheckpointError, OSError):
            return None
        return cls(folder, locked=locked) if os.access(ledger, os.W_OK) else None

    def fix_terms(self, request: Request) -> None:
        """Before training: what will be tried, and what will count as a finding."""
        with self._open() as evidence:
            if not evidence.of(Event.AUDIT_PLANNED):
                evidence.audit_planned(stage="terms", terms=request.terms)

    def fix_plan(self, plan: AuditPlan) -> None:
        """Before the first score; going on with the same plan adds nothing."""
        with self._open() as evidence:
            known = [each.facts.get("sha256") for each in evidence.of(Event.AUDIT_PLANNED)]
            if known[-1:] != [plan.sha256]:
                evidence.audit_planned(
                    stage="plan", sha256=plan.sha256, target_sha256=plan.target_sha256
                )

    def audited(self, file: Path) -> bool:
        """The result by hash, signed by the sites whose keys are here; the same one only once.

        Returns whether it is a new one.
        """
        path, root = file.resolve(), self._folder.path.resolve()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else file.name
        digest = sha256_of(file)
        with self._open() as evidence:
            if digest in [each.facts.get("sha256") for each in evidence.of(Event.AUDITED)]:
                return False
            evidence.audited(file=name, sha256=digest)
            self._ask_witnesses(evidence)
            return True

    def _ask_witnesses(self, evidence: RunEvidence) -> None:
        """Let the sites sign, where all of their keys are here.

        Fewer signatures than before would hide those that the run has.
        """
        keys = self._keys()
        if set(keys.sites) == {site for site, _ in keys.roster.members}:
            witnesses = Witnesses(evidence, identity=keys.server, roster=keys.roster)
            plan = sha256_of(self._folder.config_file)
            witnesses.ask(local_witnesses(self._folder.path, keys, plan=plan))

    def _keys(self) -> RunKeys:
        sites = sorted(path.parent.name for path in self._folder.path.glob("sites/*/identity.key"))
        return RunKeys.load(self._folder.path, sites=sites)

    @contextlib.contextmanager
    def _open(self) -> Iterator[RunEvidence]:
        with self._lock():
            yield RunEvidence.open(self._folder, identity=self._keys().server)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """The run's lock, waited for: others hold it for a moment, a run that goes on for long."""
        if self._locked:
            yield
            return
        with contextlib.ExitStack() as stack:
            until = time.monotonic() + _PATIENCE_S
            while True:
                try:
                    stack.enter_context(self._folder.lock())
                    break
                except ConfigError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.2)
            yield

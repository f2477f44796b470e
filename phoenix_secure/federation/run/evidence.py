"""Writing a run's evidence: every entry is on the disk before what it tells of takes effect.

::

    evidence/ledger.jsonl            the server's, signed line by line
    evidence/rosters.bin             all rosters, where the run went on under another one
    sites/NAME/heads.jsonl           the heads that a site saw (at the site, in a deployment)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import CheckpointError
from phoenix_secure.evidence import Entry, Event, Ledger, Scope
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.round.exclusions import Exclusion
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.files import sha256_of, storage_errors, write_bytes
from phoenix_secure.marks.origin import file_hashes
from phoenix_secure.marks.signer import MarkSigner
from phoenix_secure.privacy.events import Event as PrivacyEvent
from phoenix_secure.privacy.events import event_to_dict
from protocol import Identity, Roster, RosterChain

__all__ = ["RunEvidence", "heads_file", "ledger_file", "rosters_file"]


def ledger_file(folder: Path) -> Path:
    """The ledger of the run in ``folder``."""
    return folder / "evidence" / "ledger.jsonl"


def rosters_file(folder: Path) -> Path:
    """All rosters of the run's federation; missing where the run has seen one alone."""
    return folder / "evidence" / "rosters.bin"


def heads_file(folder: Path, site: str) -> Path:
    """The heads that a site of a simulation saw."""
    return folder / "sites" / site / "heads.jsonl"


class RunEvidence:
    """The evidence that the server of one run records."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @classmethod
    def begin(
        cls,
        folder: RunFolder,
        *,
        identity: Identity,
        config: RunConfig,
        roster: Roster,
        plan: str | None = None,
    ) -> RunEvidence:
        """The evidence of a new run: who, under which settings, with which libraries.

        plan    hash of what deployed sites approved; a simulation's sites agree to the settings

        A ledger that is there belongs to a start that was killed before it did anything: its keys
        are gone, and nobody was asked for anything.
        """
        path = ledger_file(folder.path)
        if path.parent.exists():
            with storage_errors(path):
                shutil.rmtree(path.parent)
        settings_hash = sha256_of(folder.config_file)
        scope = Scope.new(federation=roster.federation_id, plan=plan or settings_hash)
        evidence = cls(Ledger.create(path, identity=identity, scope=scope))
        append = evidence.ledger.append
        append(
            Event.CONFIG,
            sha256=settings_hash,
            settings=config.with_split().model_dump(mode="json"),
        )
        append(Event.VERSIONS, sha256=sha256_of(folder.path / "versions.json"))
        append(Event.ROSTER, sha256=roster.hash.hex(), epoch=roster.epoch)
        if plan is not None:
            append(Event.PLAN, sha256=plan)
        return evidence

    @classmethod
    def open(cls, folder: RunFolder, *, identity: Identity) -> RunEvidence:
        """The evidence of a run, to add to it.

        Raises:     CheckpointError when there is none; EvidenceError when it was changed.
        """
        path = ledger_file(folder.path)
        if not path.exists():
            raise CheckpointError(
                f"{path} is missing, and with it the run's evidence: restore it, or start again"
            )
        return cls(Ledger(path, identity=identity))

    def resumed(self, round_number: int, *, rounds: int | None = None) -> None:
        """The run goes on after ``round_number``; ``rounds``: to so many, which are more."""
        extended = {} if rounds is None else {"rounds": rounds}
        self.ledger.append(Event.RESUMED, round=round_number, **extended)

    def rosters(self, chain: RosterChain, *, round_number: int) -> None:
        """Before the first round under a roster: the signed list itself, and what changed.

        Raises:     CheckpointError where the run went on under a roster that is not in ``chain``.
        """
        known = bytes.fromhex(self.of(Event.ROSTER)[-1].facts["sha256"])
        hashes = [roster.hash for roster in chain.rosters]
        if known not in hashes:
            raise CheckpointError(
                f"the run's evidence names the roster {known.hex()[:16]}, which this server does "
                "not have: join with the newest welcome, or restore roster.bin from a copy"
            )
        new = chain.rosters[hashes.index(known) + 1 :]
        if not new:
            return
        write_bytes(rosters_file(self.ledger.path.parent.parent), chain.to_bytes())
        for roster in new:
            changes = [
                {"party": each.party, "kind": each.kind.value, "reason": each.reason}
                for each in roster.changes
            ]
            self.ledger.append(
                Event.ROSTER,
                sha256=roster.hash.hex(),
                epoch=roster.epoch,
                round=round_number,
                changes=changes,
            )

    def round_started(self, round_number: int, *, cohort: tuple[str, ...]) -> None:
        """Before the first request of a round leaves."""
        self.ledger.append(Event.ROUND_STARTED, round=round_number, cohort=list(cohort))

    def charged(self, round_number: int, *, sites: tuple[str, ...], event: PrivacyEvent) -> None:
        """Before a round's answers can leave: what each of ``sites`` spends at most by answering.

        The sites' own ledgers say what they spent; a site that fails or refuses spends less.
        """
        self.ledger.append(
            Event.PRIVACY, round=round_number, sites=list(sites), mechanism=event_to_dict(event)
        )

    def excluded(self, exclusion: Exclusion) -> None:
        """Once for each site; after a restart the server tells of all of them again."""
        if not any(entry.facts["site"] == exclusion.site for entry in self.of(Event.EXCLUDED)):
            self.ledger.append(Event.EXCLUDED, round=exclusion.training_round, **exclusion.summary)

    def failed(self, round_number: int, *, kind: str) -> None:
        """A round without a sum; only the kind, since a message could say more than it may."""
        self.ledger.append(Event.FAILED, round=round_number, kind=kind)

    def checkpoint(self, state: ServerState, report: RoundReport) -> None:
        """Before the state after a round is kept."""
        self.ledger.append(
            Event.CHECKPOINT,
            round=state.round_number,
            parameters_sha256=_vector_hash(state.parameters),
            ema_sha256=_vector_hash(state.ema),
            num_parameters=int(state.parameters.size),
            loss=report.loss,
            seconds=round(report.seconds, 3),
            num_images=report.num_images,
        )

    def evaluated(self, quality: Mapping[str, Any], *, file: Path) -> None:
        """The quality of the final model's samples, as written to ``file``."""
        self.ledger.append(Event.EVALUATED, file=file.name, sha256=sha256_of(file))

    def marked(self, file: Path, *, signer: MarkSigner | None) -> None:
        """A synthetic picture, and the certificates that its content credentials are signed under;
        without a signer it carries no mark, and the settings say why."""
        certificates = None if signer is None else signer.fingerprint
        self.ledger.append(
            Event.MARKED, file=file.name, sha256=sha256_of(file), certificates_sha256=certificates
        )

    def exported(self, folder: Path, *, round_number: int) -> None:
        """The model folder, file by file."""
        self.ledger.append(
            Event.EXPORTED, folder=folder.name, round=round_number, files=file_hashes(folder)
        )

    def audit_planned(self, **facts: Any) -> None:
        """Before what it fixes can be known; the sites sign it with whatever comes next."""
        self.ledger.append(Event.AUDIT_PLANNED, **facts)

    def audited(self, *, file: str, sha256: str, **facts: Any) -> None:
        """The result of an audit, by hash; ``facts`` of a pooled one say who is in it."""
        self.ledger.append(Event.AUDITED, file=file, sha256=sha256, **facts)

    def audit_failed(self, plan: str, *, kind: str) -> None:
        """A pooled audit without a result; only the kind, as of a round."""
        self.ledger.append(Event.AUDIT_FAILED, plan=plan, kind=kind)

    def of(self, event: Event) -> list[Entry]:
        """All entries of one kind, oldest first."""
        return read_ledger(self.ledger.path).of(event)


def _vector_hash(vector: np.ndarray) -> str:
    """SHA-256 over the vector as little-endian numbers of its own precision."""
    data = np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<"))
    return hashlib.sha256(data.tobytes()).hexdigest()

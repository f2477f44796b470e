"""A run's folder as parsed facts: what all sections of the report read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from phoenix_secure.audit.report import AuditReport
from phoenix_secure.compliance.declared import GOVERNANCE, Governance, parse_governance
from phoenix_secure.compliance.run_files import LEDGER, RunFiles
from phoenix_secure.compliance.schema import Edition, Evidence
from phoenix_secure.evidence import Entry, Event, EvidenceError, read_ledger
from phoenix_secure.evidence.ledger import LedgerFile
from phoenix_secure.federation.run.summary import RunSummary
from phoenix_secure.privacy.events import Event as PrivacyEvent
from phoenix_secure.privacy.events import event_from_dict
from protocol import RemoteProtocolError, Roster, RosterChain

__all__ = ["AUDIT", "Facts", "load_facts", "read_rosters"]

AUDIT = "audit/audit.json"
_SITE_LEDGERS = "sites/*/privacy.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The evidence that one run left behind.

    settings    as the ledger has them, not as config.yaml says today
    charged     site -> privacy events that the server's ledger charged it with, one for a round
    spent       site -> events of its own ledger, where that can be read
    """

    files: RunFiles
    edition: Edition
    ledger: LedgerFile
    settings: dict[str, Any]
    summary: RunSummary
    quality: dict[str, Any]
    versions: dict[str, Any]
    audit: AuditReport | None
    governance: Governance
    roster: Roster | None
    charged: dict[str, tuple[PrivacyEvent, ...]]
    spent: dict[str, tuple[PrivacyEvent, ...]]
    plans: dict[str, int]

    @property
    def is_confidential(self) -> bool:
        return self.edition is Edition.CONFIDENTIAL

    @property
    def guarantee(self) -> dict[str, Any]:
        """The guarantee in the run's summary; empty for "no formal guarantee"."""
        found = self.summary.guarantee
        return found if found is not None and found.get("epsilon") is not None else {}

    @property
    def planned_unit(self) -> str:
        """The unit of privacy that the ledger's settings name."""
        return str(self.settings.get("privacy", {}).get("unit", "none"))

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site that was ever asked."""
        asked = {site for each in self.ledger.of(Event.ROUND_STARTED) for site in _cohort(each)}
        return tuple(sorted(asked))

    def last(self, event: Event) -> Entry | None:
        """The newest entry of a kind."""
        found = self.ledger.of(event)
        return found[-1] if found else None

    @property
    def planned_roster(self) -> str | None:
        """The hash of the roster that the run began with; later ones are entries of their own."""
        found = self.ledger.of(Event.ROSTER)
        return str(found[0].facts["sha256"]) if found else None

    def at(self, entry: Entry | None) -> tuple[Evidence, ...]:
        """A reference to an entry of the ledger."""
        if entry is None:
            return ()
        return (self.files.evidence(LEDGER, f"line {entry.index + 1}"),)

    def where(self, name: str, pointer: str = "") -> tuple[Evidence, ...]:
        """A reference to a file, none where it is missing."""
        return (self.files.evidence(name, pointer),) if self.files.has(name) else ()

    def site_ledgers(self) -> tuple[Evidence, ...]:
        """The sites' privacy ledgers; their paths name the sites, so that the public gets none."""
        if not self.is_confidential:
            return ()
        return tuple(self.files.evidence(name) for name in self.files.names(_SITE_LEDGERS))


def load_facts(files: RunFiles, *, edition: Edition) -> Facts:
    """Read and cross-check the folder of a finished run.

    Raises:     EvidenceError when a file is missing, damaged, or not the one the ledger names.
    """
    ledger = _first(read_ledger(files.root / LEDGER), files.ledger_entries)
    config = ledger.of(Event.CONFIG)
    if not config or not ledger.of(Event.EXPORTED):
        raise EvidenceError(
            f"{files.root} is not a finished run (its ledger exports no model): use `resume`"
        )
    facts = Facts(
        files=files,
        edition=edition,
        ledger=ledger,
        settings=_dict(config[0].facts.get("settings")),
        summary=_summary(files),
        quality=files.optional_json("evaluation.json"),
        versions=files.optional_json("versions.json"),
        audit=_audit(files),
        governance=_governance(files),
        roster=None if (rosters := read_rosters(files)) is None else rosters.current,
        charged=_charged(ledger),
        spent=_spent(files)[0],
        plans=_spent(files)[1],
    )
    _check_hashes(facts)
    _check_guarantee(facts)
    return facts


def read_rosters(files: RunFiles) -> RosterChain | None:
    """The run's rosters, checked against the owner's key beside them; None where there are none."""
    if not (files.has("roster.bin") and files.has("owner.key.pub")):
        return None
    try:
        owner_key = files.content("owner.key.pub")
        return RosterChain.load(files.content("roster.bin"), owner_key=owner_key)
    except RemoteProtocolError as error:
        raise EvidenceError(f"{files.root / 'roster.bin'} was changed: {error}") from error


def _first(ledger: LedgerFile, entries: int | None) -> LedgerFile:
    """The ledger as it was when it had so many entries."""
    if entries is None or not 0 < entries < ledger.head.size:
        return ledger
    kept = ledger.entries[:entries]
    return dataclasses.replace(ledger, entries=kept, head=ledger.head_at(entries))


def _check_hashes(facts: Facts) -> None:
    """Refuse a folder whose files are not those that the ledger names by hash."""
    files, named = facts.files, {}
    exported = facts.last(Event.EXPORTED)
    if exported is not None:
        folder = exported.facts.get("folder")
        named = {
            f"{folder}/{name}": digest for name, digest in _dict(exported.facts["files"]).items()
        }
    evaluated = facts.last(Event.EVALUATED)
    if evaluated is not None:
        named[str(evaluated.facts["file"])] = evaluated.facts["sha256"]
    versions = facts.last(Event.VERSIONS)
    if versions is not None:
        named["versions.json"] = versions.facts["sha256"]
    named["config.yaml"] = facts.ledger.of(Event.CONFIG)[0].facts["sha256"]
    for name, digest in sorted(named.items()):
        if files.sha256(name) != digest:
            raise EvidenceError(
                f"{files.root / name} is not the file that the ledger names: restore it, or "
                "finish the run again with `resume`"
            )
    roster = facts.last(Event.ROSTER)
    if facts.roster is not None and roster is not None:
        if facts.roster.hash.hex() != roster.facts["sha256"]:
            raise EvidenceError(f"{files.root / 'roster.bin'} is not the ledger's roster")
        if facts.roster.server_key != facts.ledger.server_key:
            raise EvidenceError("the ledger is signed by another key than the roster's server")


def _check_guarantee(facts: Facts) -> None:
    """A stated guarantee must be one that a run can state: the rest computes with it."""
    stated = facts.guarantee
    if not stated:
        return
    try:
        _Stated.model_validate(stated)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
        raise EvidenceError(
            f"{facts.files.root / 'summary.json'}: guarantee.{place} is not as a run writes it: "
            "finish the run again with `resume`"
        ) from error


class _Replaced(BaseModel):
    """Its part for neighbours that replace a record; earlier runs state none."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    adjacency: str
    epsilon: float = Field(ge=0)
    figures: dict[str, float]


class _Stated(BaseModel):
    """The guarantee of ``summary.json`` (``privacy.guarantee.Guarantee.to_dict``)."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    unit: Literal["record", "group", "site"]
    adjacency: str
    epsilon: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    figures: dict[str, float]
    replace_one: _Replaced | None = None
    noise_multiplier: float
    releases: int
    mechanism: str
    noise_source: str
    trusted: dict[str, str]
    not_protected: list[str]
    warnings: list[str]
    text: str


def _summary(files: RunFiles) -> RunSummary:
    try:
        return RunSummary.from_dict(files.document("summary.json"))
    except ValueError as error:
        raise EvidenceError(
            f"{files.root / 'summary.json'} is not as a run writes it ({error}): finish the run "
            "again with `resume`"
        ) from error


def _audit(files: RunFiles) -> AuditReport | None:
    if not files.has(AUDIT):
        return None
    try:
        return AuditReport.model_validate_json(files.content(AUDIT))
    except ValidationError as error:
        raise EvidenceError(
            f"{files.root / AUDIT} is not an audit of this version: audit again"
        ) from error


def _governance(files: RunFiles) -> Governance:
    if not files.has(GOVERNANCE):
        return Governance()
    return parse_governance(files.content(GOVERNANCE), name=str(files.root / GOVERNANCE))


def _charged(ledger: LedgerFile) -> dict[str, tuple[PrivacyEvent, ...]]:
    """One event for each round in which a site was asked; a second attempt is the same release."""
    found: dict[str, dict[Any, PrivacyEvent]] = {}
    for entry in ledger.of(Event.PRIVACY):
        try:
            event = event_from_dict(entry.facts["mechanism"])
            sites, round_number = list(entry.facts["sites"]), entry.facts["round"]
        except (KeyError, TypeError, ValueError) as error:
            raise EvidenceError(
                f"entry {entry.index} of the ledger charges an event that is not known here: "
                "use the version that wrote it"
            ) from error
        for site in sites:
            found.setdefault(str(site), {})[round_number] = event
    return {site: tuple(events.values()) for site, events in sorted(found.items())}


def _spent(files: RunFiles) -> tuple[dict[str, tuple[PrivacyEvent, ...]], dict[str, int]]:
    spent, plans = {}, {}
    for name in files.names(_SITE_LEDGERS):
        lines = files.lines(name)
        try:
            by_id = {line["id"]: event_from_dict(line["event"]) for line in lines}
            plans[name.split("/")[1]] = len({line["plan"] for line in lines})
        except (KeyError, TypeError, ValueError) as error:
            raise EvidenceError(f"{files.root / name} is damaged: restore it") from error
        spent[name.split("/")[1]] = tuple(by_id.values())
    return spent, plans


def _cohort(entry: Entry) -> list[str]:
    cohort = entry.facts.get("cohort")
    return [str(site) for site in cohort] if isinstance(cohort, list) else []


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EvidenceError("an entry of the ledger has other facts than this version knows")
    return value

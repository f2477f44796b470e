"""Every field that a report has, in its order, and the form in which sections answer them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from phoenix_secure.compliance.clause_map import ClauseMap
from phoenix_secure.compliance.declared import GOVERNANCE
from phoenix_secure.compliance.facts import Facts
from phoenix_secure.compliance.schema import Evidence, Kind, Profile, ReportField

__all__ = ["ADDED", "SECTIONS", "TITLES", "Answers"]

SECTIONS = {
    "A": "What it is and who answers for it",
    "B": "Images",
    "C": "Differential privacy",
    "D": "Trust and security",
    "E": "Attacks",
    "F": "Quality",
    "G": "Risks, measures, statements",
    "H": "Evidence",
}

TITLES = {
    "A1.versions": "Software that made the run",
    "A2.architecture": "Architecture",
    "A2.num_parameters": "Parameters",
    "A2.files": "Model files by SHA-256",
    "A3.purpose": "Purpose",
    "A3.intended_uses": "Intended uses",
    "A3.out_of_scope": "Uses that are out of scope",
    "A3.recipients": "Recipients",
    "A4.controllers": "Controllers",
    "A4.arrangement": "Arrangement between joint controllers",
    "A4.processors": "Processors",
    "A4.processor_terms": "Contracts with processors",
    "A4.dpo": "Data-protection officer",
    "A4.signatory": "Who answers for the declared facts",
    "A5.release_context": "Release context",
    "A6.region": "Region whose people or law it concerns",
    "A6.sector": "Sector",
    "B1.data_set": "Data set",
    "B1.num_sites": "Sites",
    "B1.num_images": "Training images",
    "B1.fingerprint": "Keyed digest of each site's images",
    "B1.source": "Source",
    "B1.legal_basis": "Legal basis or licence",
    "B1.categories": "Categories of data",
    "B1.special_categories": "Special categories",
    "B1.special_basis": "Condition for special categories",
    "B1.research_safeguards": "Safeguards for research",
    "B1.subjects": "Whose data",
    "B1.retention": "Retention",
    "B1.transfers": "Transfers to third countries",
    "B2.training_input": "What training does to an image",
    "B2.preprocessing": "Preprocessing before training",
    "B2.duplicates": "Duplicates inside the data set",
    "B3.unit": "Unit of privacy",
    "B3.several_images_per_person": "Several images of one person",
    "B3.persons_at_several_sites": "Persons at several sites",
    "B4.unprotected": "What the guarantee does not cover",
    "C1.mechanism": "Mechanism",
    "C2.epsilon": "Epsilon that is claimed",
    "C2.delta": "Delta",
    "C2.figures": "Each accountant's own figure",
    "C2.recomputed": "Epsilon by the second accountant",
    "C2.per_site": "Epsilon spent by each site",
    "C2.delta_size": "Delta beside the number of images",
    "C3.runs": "Runs that drew on the same images",
    "C4.ceilings": "The most that any attack can find",
    "C5.statement": "Guarantee in words",
    "D1.trust": "Who sees what",
    "D1.trusted": "Who must be trusted, and with what",
    "D2.secure_aggregation": "Secure aggregation",
    "D2.rounds": "Rounds of secure aggregation",
    "D3.keys": "Keys",
    "D3.key_handling": "Keeping of keys",
    "D3.transport": "Transport",
    "D4.randomness": "Randomness",
    "D4.access_control": "Access control",
    "D4.side_channels": "Side channels",
    "D5.components": "Components",
    "D5.vulnerabilities": "Watching of vulnerabilities",
    "D5.known_vulnerabilities": "Known vulnerabilities of components",
    "E1.plan": "Audit plan, fixed before the first score",
    "E2.game": "The attacker",
    "E3.coverage": "Which attacks were tried",
    "E4.verdict": "Verdict of the audit",
    "E4.strongest": "Strongest attack",
    "E4.attacks": "Every attack",
    "E4.blind": "Telling members apart without the model",
    "E4.groups": "Strongest attack by class and site",
    "E4.server_view": "What the server's view gives away",
    "E5.copying": "Copies among samples",
    "E6.consistency": "Epsilon from below against epsilon from above",
    "E7.conditions": "How and when the audit ran",
    "F1.quality": "Quality of samples",
    "F2.groups": "Quality by group",
    "F3.trade_off": "Why this epsilon and this quality",
    "F3.frontier": "Privacy against quality, point by point",
    "F4.ratio": "Training images per parameter",
    "F5.compute": "Compute",
    "F5.energy": "Energy",
    "F6.marks": "Marks on synthetic images",
    "G1.limits": "What this report does not say",
    "G1.residual_risks": "Residual risks",
    "G2.measures": "Measures still to take",
    "G3.impact_assessment": "Impact assessment",
    "G3.dpo_advice": "Advice of the data-protection officer",
    "G3.subjects_views": "Views of data subjects",
    "G3.prior_consultation": "Prior consultation of the authority",
    "G3.expert": "Statement of an expert",
    "G4.review_triggers": "When to look again",
    "G4.review_due": "Date of the next review",
    "G5.deployers": "Instructions for whoever uses the model",
    "G6.erasure": "When a person asks for erasure",
    "G6.objection": "When a person objects",
    "H1.ledger": "Evidence ledger",
    "H1.witnesses": "Sites that signed the ledger's head",
    "H1.timeline": "Rounds",
    "H2.verify": "How to check this report",
}

# Left out where a run has none of it, so that reports of before there was such a field verify.
ADDED = frozenset({"D5.known_vulnerabilities", "F6.marks"})


class Answers:
    """Collects one section's fields; a field answered twice or unknown is our own mistake."""

    def __init__(self, facts: Facts, *, clauses: ClauseMap, profiles: tuple[Profile, ...]) -> None:
        self.facts = facts
        self._clauses = clauses
        self._profiles = profiles
        self._found: dict[str, ReportField] = {}

    @property
    def clause_map(self) -> str:
        """The version of the clause map that the report is made with."""
        return self._clauses.version

    @property
    def fields(self) -> tuple[ReportField, ...]:
        """The fields of the clause map, in the catalogue's order.

        Raises:     ValueError when a field has no answer, not even "missing".
        """
        wanted = [id for id in TITLES if self._clauses.knows(id)]
        if unanswered := set(wanted) - ADDED - set(self._found):
            raise ValueError(f"no answer for {sorted(unanswered)}")
        return tuple(self._found[id] for id in wanted if id in self._found)

    def get(self, id: str) -> ReportField:
        """A field that was answered before."""
        return self._found[id]

    def measured(self, id: str, value: Any, **how: Any) -> None:
        """Observed on this run."""
        self._add(id, Kind.MEASURED, value, **how)

    def derived(self, id: str, value: Any, **how: Any) -> None:
        """Follows from what else is known."""
        self._add(id, Kind.DERIVED, value, **how)

    def declared(self, id: str, pointer: str, *, note: str | None = None) -> None:
        """Add the value of governance.yaml at ``pointer``; missing where it says nothing."""
        value = self.facts.governance.said(pointer)
        if value is None:
            key = pointer.strip("/").replace("/", ".")
            self.missing(id, f"set {key} in governance.yaml")
        else:
            evidence = self.facts.where(GOVERNANCE, pointer)
            self._add(id, Kind.DECLARED, value, evidence=evidence, note=note)

    def handed_in(self, id: str, value: Any, **how: Any) -> None:
        """Figures of other runs: like what people declare, nothing here checks them."""
        self._add(id, Kind.DECLARED, value, **how)

    def missing(self, id: str, note: str) -> None:
        """Nobody said it and nothing measured it; ``note`` says what would fill the gap."""
        self._add(id, Kind.MISSING, None, note=note)

    def _add(
        self,
        id: str,
        kind: Kind,
        value: Any,
        *,
        unit: str | None = None,
        note: str | None = None,
        evidence: Iterable[Evidence] = (),
    ) -> None:
        if id not in TITLES or id in self._found:
            raise ValueError(f"{id} is unknown or answered twice")
        self._found[id] = ReportField(
            id=id,
            title=TITLES[id],
            kind=kind,
            value=value,
            unit=unit,
            note=note,
            evidence=tuple(evidence),
            clauses=self._clauses.of(id, profiles=self._profiles),
        )

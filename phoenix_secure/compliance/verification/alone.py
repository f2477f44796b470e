"""Checks of a report and its signature alone, without the run's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from phoenix_secure.compliance.accountant import agrees, recomputed_epsilon
from phoenix_secure.compliance.build import failures_in, headline_of, report_id
from phoenix_secure.compliance.catalogue import ADDED, TITLES
from phoenix_secure.compliance.clause_map import is_known, load_clause_map
from phoenix_secure.compliance.schema import Kind, Report
from phoenix_secure.compliance.statement import open_statement
from phoenix_secure.compliance.verification.checks import Checks
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.evidence.canonical import NotCanonical, parse_canonical
from phoenix_secure.privacy.ceiling import tpr_ceiling
from phoenix_secure.privacy.events import Adjacency, event_from_dict

__all__ = ["check_alone", "read_report"]

_MAX_BYTES = 1 << 28


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:     EvidenceError naming the file and the first field that does not hold.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EvidenceError(f"{path} is too long to be a report")
        content = path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"cannot read {path} ({error.strerror}): name a report.json") from error
    try:
        report = Report.model_validate(parse_canonical(content))
    except NotCanonical as error:
        raise EvidenceError(f"{path} was changed, or is no report: {error}") from error
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
        raise EvidenceError(f"{path} is not a report of this version (at {place})") from error
    if report.to_bytes() != content:
        raise EvidenceError(f"{path} was changed: it is not as a report is written")
    return report


def check_alone(report: Report, path: Path, *, key: bytes, checks: Checks) -> None:
    """Signature, files beside the report, and whatever follows from its own fields."""
    statement = _check_signature(path, key=key, checks=checks)
    if statement is not None:
        _check_subjects(statement, report, path, checks=checks)
    with checks.catching("fields that follow from others"):
        _check_derived(report, checks)


def _check_signature(path: Path, *, key: bytes, checks: Checks) -> dict[str, Any] | None:
    envelope = path.with_suffix(".dsse.json")
    try:
        statement = open_statement(envelope.read_bytes(), key=key)
    except OSError as error:
        checks.failed("signature", f"cannot read {envelope} ({error.strerror})")
    except EvidenceError as error:
        checks.failed("signature", str(error))
    else:
        checks.holds("signature", f"Ed25519 key {key.hex()}")
        return statement
    return None


def _check_subjects(
    statement: dict[str, Any], report: Report, path: Path, *, checks: Checks
) -> None:
    with checks.catching("signed statement"):
        named = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        ledger = report.value("H1.ledger")
        checks.require(
            "report.json is the signed one",
            named.get("report/report.json") == hashlib.sha256(report.to_bytes()).hexdigest(),
            "report.json was changed after it was signed, or belongs to another signature",
        )
        checks.require(
            "ledger head is the signed one",
            named.get(f"ledger/{ledger['id']}") == ledger["root"],
            "the signature is over another ledger head than the report's",
        )
        models = {f"run/{name}": digest for name, digest in report.value("A2.files").items()}
        signed = {name: digest for name, digest in named.items() if name.startswith("run/model")}
        checks.require(
            "model files are the signed ones",
            models.items() <= named.items() and set(signed) <= set(models),
            "the signature names other model files than the report",
        )
        for name, digest in sorted(named.items()):
            folder, _, rest = name.partition("/")
            if folder == "report" and rest != "report.json":
                _check_beside(path.parent, rest, digest, checks)


def _check_beside(folder: Path, name: str, digest: str, checks: Checks) -> None:
    if not name or Path(name).name != name:
        checks.failed("signed statement", "it names a file outside the report's folder")
        return
    try:
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except FileNotFoundError:
        checks.not_made(f"{name}", "the file is not beside the report")
    except OSError as error:
        checks.failed(name, f"cannot be read ({error.strerror})")
    else:
        checks.require(name, found == digest, f"{name} was changed after it was signed")


def _check_derived(report: Report, checks: Checks) -> None:
    fields = report.fields
    _check_fields(report, checks)
    checks.require(
        "report id",
        report.id == report_id(report.edition, report.profiles, fields, report.annex),
        "the id does not follow from the fields and the annex",
    )
    if report.annex:
        names = ", ".join(each.extension for each in report.annex)
        checks.holds("annex", f"as signed; what it says, by the extension {names}, is not verified")
    checks.require(
        "first lines",
        report.headline == headline_of(fields),
        "the first lines do not follow from the fields",
    )
    checks.require(
        "contradictions are at the top",
        report.headline.failures == failures_in(fields),
        "a contradiction between fields is not shown, or one is shown that is none",
    )
    _check_epsilon(report, checks)


def _check_fields(report: Report, checks: Checks) -> None:
    """The fields are those of the clause map that the report was made with."""
    if not is_known(report.clause_map):
        checks.not_made("fields and clauses", f"clause map {report.clause_map} is not known here")
        return
    clauses = load_clause_map(report.clause_map)
    if clauses.version != load_clause_map().version:
        checks.holds(
            "clause map",
            f"made with {clauses.version}; what today's {load_clause_map().version} asks beyond it "
            "is not in this report",
        )
    fields = report.fields
    given = {each.id for each in fields}
    checks.require(
        "every field is there, once",
        [each.id for each in fields]
        == [id for id in TITLES if clauses.knows(id) and (id in given or id not in ADDED)],
        "fields were added, dropped or reordered",
    )
    wrong = [
        each.id
        for each in fields
        if each.title != TITLES.get(each.id)
        or (each.kind is Kind.MISSING) != (each.value is None)
        or each.clauses != clauses.of(each.id, profiles=report.profiles)
    ]
    checks.require("titles, kinds and clauses", not wrong, f"wrong in {', '.join(wrong[:5])}")


def _check_epsilon(report: Report, checks: Checks) -> None:
    epsilon, delta = report.value("C2.epsilon"), report.value("C2.delta")
    if epsilon is None:
        checks.holds("epsilon", "no formal guarantee is claimed")
        return
    for fpr, ceiling in report.value("C4.ceilings").items():
        expected = round(tpr_ceiling(float(fpr), epsilon=epsilon, delta=delta), 6)
        checks.require(
            f"ceiling at FPR {fpr}", ceiling == expected, f"C4.ceilings should be {expected}"
        )
    events = [event_from_dict(each) for each in report.value("C1.mechanism")["events"]]
    again, said = recomputed_epsilon(events, delta=delta), report.value("C2.recomputed")
    if replaced := report.value("C1.mechanism").get("replace_one"):
        found = recomputed_epsilon(events, delta=delta, adjacency=Adjacency.REPLACE_ONE)
        checks.require(
            "epsilon where a record is replaced",
            agrees(replaced["recomputed"], found),
            f"the report says {replaced['recomputed']}, the mechanism's events spend {found:.4g}",
        )
    # Where this is above the claim, the report must say FAIL: that is checked with the others.
    checks.require(
        "epsilon by the second accountant",
        bool(events) and said is not None and agrees(said, again),
        f"the report says {said}, the mechanism's events spend {again:.4g}",
    )

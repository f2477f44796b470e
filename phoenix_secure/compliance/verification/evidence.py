"""Checks against the run's folder: ledger, witnesses, every file, and the report built again."""

from __future__ import annotations

import base64
from pathlib import Path

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.run_files import LEDGER, RunFiles
from phoenix_secure.compliance.schema import Report
from phoenix_secure.compliance.verification.checks import Checks
from phoenix_secure.evidence import Event, EvidenceError, read_ledger
from phoenix_secure.evidence.head import TreeHead
from phoenix_secure.evidence.ledger import LedgerFile
from phoenix_secure.evidence.merkle import verify_consistency, verify_inclusion
from phoenix_secure.evidence.witness import Forked, read_kept
from protocol import Roster

__all__ = ["check_evidence"]


def check_evidence(
    report: Report, run: Path, *, key: bytes, roster: Roster | None, checks: Checks
) -> None:
    """Everything that needs the folder ``run``; ``key`` is the pinned key of the server."""
    try:
        ledger = read_ledger(run / LEDGER, server_key=key)
    except EvidenceError as error:
        checks.failed("ledger", str(error))
        return
    if ledger.torn_bytes:
        checks.failed("ledger", f"{ledger.torn_bytes} bytes stand behind the last whole line")
        return
    checks.holds(
        "ledger", f"{ledger.head.size} entries, each signed and following from those before"
    )
    with checks.catching("ledger head"):
        if not _check_head(report, ledger, checks):
            return
    with checks.catching("proofs"):
        _check_proofs(report, ledger, checks)
    with checks.catching("witnesses"):
        _check_witnesses(ledger, roster, checks)
    _check_kept_heads(run, ledger, key=key, checks=checks)
    with checks.catching("files"):
        _check_files(report, run, checks)
    with checks.catching("report built again"):
        _check_rebuilt(report, run, checks)


def _check_head(report: Report, ledger: LedgerFile, checks: Checks) -> bool:
    """The ledger may have grown since; its beginning may not have changed."""
    said, tree = report.value("H1.ledger"), ledger.tree
    size = said["entries"]
    if said["id"] != ledger.id:
        checks.failed("ledger head", "this is the ledger of another run")
        return False
    if not 1 <= size <= tree.size:
        checks.failed(
            "ledger head", f"the report rests on {size} entries, here are {tree.size}: dropped"
        )
        return False
    grown = tree.size - size
    return checks.require(
        "ledger head" if not grown else f"ledger head ({grown} entries came later)",
        tree.root(size).hex() == said["root"],
        "the ledger's history is not the one that the report rests on (forked or rewritten)",
    )


def _check_proofs(report: Report, ledger: LedgerFile, checks: Checks) -> None:
    said, tree = report.value("H1.ledger"), ledger.tree
    size, root = said["entries"], bytes.fromhex(said["root"])
    grew = verify_consistency(
        old_size=size,
        old_root=root,
        size=tree.size,
        root=bytes.fromhex(ledger.head.root),
        proof=tree.consistency_proof(size),
    )
    checks.require("consistency proof", grew, "today's ledger does not contain the report's")
    named = {
        int(each.pointer.removeprefix("line ")) - 1
        for field in report.fields
        for each in field.evidence
        if each.path == LEDGER and each.pointer.startswith("line ")
    }
    missing = [
        index
        for index in sorted(named)
        if not (
            0 <= index < size
            and verify_inclusion(
                ledger.entries[index].leaf,
                index=index,
                size=size,
                proof=tree.inclusion_proof(index, size=size),
                root=root,
            )
        )
    ]
    checks.require("inclusion proofs", not missing, f"entries {missing} are not in the tree")


def _check_witnesses(ledger: LedgerFile, roster: Roster | None, checks: Checks) -> None:
    shown = ledger.of(Event.WITNESSED)
    if roster is None:
        checks.not_made("witnesses", "no roster: name one with --roster")
        return
    if not shown:
        checks.not_made("witnesses", "no site was shown this ledger")
        return
    for entry in shown:
        head = TreeHead.from_dict(entry.facts["head"])
        if head.size > entry.index or ledger.tree.root(head.size).hex() != head.root:
            checks.failed("witnesses", f"entry {entry.index}: sites signed another history")
            return
        for site, text in entry.facts["signatures"].items():
            public_key = roster.key(site)
            signature = base64.b64decode(text, validate=True)
            if public_key is None or not head.is_signed(signature, by=public_key):
                checks.failed(
                    "witnesses", f"entry {entry.index}: not signed by the roster's key of {site}"
                )
                return
    last = shown[-1]
    checks.holds(
        "witnesses",
        f"{len(last.facts['signatures'])} sites signed the first {last.facts['head']['size']} "
        f"of {ledger.head.size} entries",
    )


def _check_kept_heads(run: Path, ledger: LedgerFile, *, key: bytes, checks: Checks) -> None:
    """Heads that sites kept at home: a history that was rewritten does not contain them."""
    tree = ledger.tree
    files = sorted(run.glob("sites/*/heads.jsonl"))
    if not files:
        checks.not_made("heads that sites kept", "none lie below sites/: ask the sites for theirs")
        return
    for path in files:
        name = f"heads kept by {path.parent.name}"
        try:
            heads = read_kept(path, server_key=key)
        except (Forked, OSError) as error:
            checks.failed(name, str(error))
            continue
        wrong = [
            head.size
            for head in heads
            if head.ledger != ledger.id
            or head.size > tree.size
            or tree.root(head.size).hex() != head.root
        ]
        checks.require(
            name, not wrong, f"the site kept a head of {wrong[:1]} entries of another history"
        )


def _check_files(report: Report, run: Path, checks: Checks) -> None:
    size = report.value("H1.ledger")["entries"]
    files = RunFiles(run, ledger_entries=size)
    wanted = {each.path: each.sha256 for field in report.fields for each in field.evidence}
    wanted |= report.value("A2.files")
    for name, digest in sorted(wanted.items()):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            checks.failed(f"file {name}", "it lies outside the run's folder")
        elif not files.has(name):
            checks.failed(f"file {name}", f"{name} is missing from {run}")
        else:
            checks.require(f"file {name}", files.sha256(name) == digest, f"{name} was changed")


def _check_rebuilt(report: Report, run: Path, checks: Checks) -> None:
    """Every measured and derived field once more, from the files alone."""
    again = build_report(
        run,
        edition=report.edition,
        profiles=report.profiles,
        ledger_entries=report.value("H1.ledger")["entries"],
    )
    if again.tool != report.tool:
        checks.not_made("report built again", f"it was made by version {report.tool.version}")
        return
    mine = {each.id: each for each in again.fields}
    differing = [each.id for each in report.fields if mine.get(each.id) != each]
    checks.require(
        "report built again",
        not differing and again.to_bytes() == report.to_bytes(),
        f"other values follow from the evidence: {', '.join(differing) or 'outside the fields'}",
    )

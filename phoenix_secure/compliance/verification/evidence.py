"""Checks against the run's folder: ledger, witnesses, every file, and the report built again."""

from __future__ import annotations

import base64
from pathlib import Path

from phoenix_secure.compliance.build import annexed, build_report
from phoenix_secure.compliance.clause_map import is_known
from phoenix_secure.compliance.run_files import LEDGER, RunFiles
from phoenix_secure.compliance.schema import Report
from phoenix_secure.compliance.verification.checks import Checks
from phoenix_secure.compliance.verification.rosters import (
    check_rosters,
    known_rosters,
    roster_at,
)
from phoenix_secure.evidence import Event, EvidenceError, read_ledger
from phoenix_secure.evidence.head import TreeHead
from phoenix_secure.evidence.ledger import LedgerFile
from phoenix_secure.evidence.merkle import verify_consistency, verify_inclusion
from phoenix_secure.evidence.witness import Forked, read_kept
from protocol import RosterChain

__all__ = ["check_evidence"]

_OLD = "heads of version 0.1.0, which name neither plan nor federation"


def check_evidence(
    report: Report, run: Path, *, key: bytes, rosters: RosterChain | None, checks: Checks
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
    _check_up_to_date(report, ledger, checks)
    with checks.catching("proofs"):
        _check_proofs(report, ledger, checks)
    with checks.catching("plan of the ledger"):
        _check_scope(ledger, checks)
    if rosters is not None:
        with checks.catching("federation of the ledger"):
            rosters = known_rosters(run, rosters)
            check_rosters(ledger, rosters, checks)
    with checks.catching("witnesses"):
        _check_witnesses(ledger, rosters, checks)
    with checks.catching("heads that sites kept"):
        _check_kept_heads(run, ledger, rosters, key=key, checks=checks)
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


def _check_up_to_date(report: Report, ledger: LedgerFile, checks: Checks) -> None:
    """An audit that came later changed what the report rests on, and may have found something."""
    later = [
        entry
        for entry in ledger.entries[report.value("H1.ledger")["entries"] :]
        if entry.event == Event.AUDITED
    ]
    if later:
        checks.failed(
            "up to date",
            f"superseded: entry {later[-1].index} of the ledger is an audit that came after this "
            "report; build it again with `phoenix-secure report RUN`",
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


def _check_scope(ledger: LedgerFile, checks: Checks) -> None:
    """The heads, and so the sites' signatures, name the plan and federation of the entries."""
    name, scope = "plan of the ledger", ledger.head.scope
    if scope is None:
        checks.holds(name, _OLD)
        return
    agreed = ledger.of(Event.PLAN) or ledger.of(Event.CONFIG)
    checks.require(
        name,
        bool(agreed) and {each.facts.get("sha256") for each in agreed} == {scope.plan},
        "its heads name another plan than its entries",
    )


def _check_witnesses(ledger: LedgerFile, rosters: RosterChain | None, checks: Checks) -> None:
    shown = ledger.of(Event.WITNESSED)
    if rosters is None:
        checks.not_made("witnesses", "no roster: name one with --roster")
        return
    if not shown:
        checks.not_made("witnesses", "no site was shown this ledger")
        return
    for entry in shown:
        head = TreeHead.from_dict(entry.facts["head"])
        if head.size > entry.index or head != ledger.head_at(head.size):
            checks.failed("witnesses", f"entry {entry.index}: sites signed another history")
            return
        roster = roster_at(ledger, rosters, entry.index)
        for site, text in entry.facts["signatures"].items():
            public_key = None if roster is None else roster.key(site)
            signature = base64.b64decode(text, validate=True)
            if public_key is None or not head.is_signed(signature, by=public_key):
                checks.failed(
                    "witnesses", f"entry {entry.index}: not signed by the roster's key of {site}"
                )
                return
    last = shown[-1]
    said = (
        f"{len(last.facts['signatures'])} sites signed the first {last.facts['head']['size']} "
        f"of {ledger.head.size} entries"
    )
    checks.holds("witnesses", said if ledger.head.scope else f"{said}; {_OLD}")


def _check_kept_heads(
    run: Path, ledger: LedgerFile, rosters: RosterChain | None, *, key: bytes, checks: Checks
) -> None:
    """Heads that sites kept at home: a history that was rewritten does not contain them."""
    files = sorted(run.glob("sites/*/heads.jsonl"))
    if not files:
        checks.not_made("heads that sites kept", "none lie below sites/: ask the sites for theirs")
        return
    # Of the first: a site that left kept heads of before.
    first = ledger.of(Event.ROSTER)[0].index + 1
    roster = None if rosters is None else roster_at(ledger, rosters, first)
    for path in files:
        site = path.parent.name
        name = f"heads kept by {site}"
        site_key = None if roster is None else roster.key(site)
        if rosters is not None and site_key is None:
            checks.failed(name, "no such site in the roster")
            continue
        try:
            heads = read_kept(path, server_key=key, site_key=site_key)
        except (Forked, OSError) as error:
            checks.failed(name, str(error))
            continue
        wrong = [
            head.size
            for head in heads
            if head.size > ledger.head.size or head != ledger.head_at(head.size)
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
    """Every measured and derived field once more, from the files alone; the annex is taken over."""
    if not is_known(report.clause_map):
        checks.not_made("report built again", f"clause map {report.clause_map} is not known here")
        return
    again = build_report(
        run,
        edition=report.edition,
        profiles=report.profiles,
        ledger_entries=report.value("H1.ledger")["entries"],
        clause_map=report.clause_map,
    )
    again = annexed(again, report.annex)
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

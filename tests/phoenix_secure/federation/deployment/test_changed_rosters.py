"""A run whose federation's roster changes: five sites, then four, or no further."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.schema import Edition
from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.evidence import Event, read_ledger
from phoenix_secure.federation.deployment.deployed_sites import planned_roster_hash
from phoenix_secure.federation.deployment.held_rosters import take_rosters
from phoenix_secure.federation.run.evidence import ledger_file, rosters_file
from phoenix_secure.federation.run.folder import RunFolder
from protocol import ChangeKind, Identity, RosterChain, RosterChange
from protocol.encoding import encode

GONE = "site-05"
QUICK = ("training.local_steps=1", "sampling.num_steps=1", "output.num_samples=1")


def change(federation, kind: ChangeKind, site: str, *, reason: str = "") -> None:
    """The owner signs the next roster, and the server joins with it; no site does."""
    owner = Identity("owner", seed=(federation.root / "f/owner/owner.key").read_bytes())
    chain = federation.server.rosters()
    keys = dict(chain.first.members)
    for held in chain.current.changes:
        if held.party != site:
            del keys[held.party]
    if kind in (ChangeKind.SUSPENDED, ChangeKind.REVOKED):
        del keys[site]
    newer = chain.extended(
        owner,
        server_key=chain.current.server_key,
        keys=keys,
        changes=[RosterChange(kind=kind, party=site, reason=reason)],
    )
    assert take_rosters(federation.server.path, newer.to_bytes())


@pytest.mark.long
def test_site_that_is_revoked_between_rounds_is_in_none_of_the_next(
    folder_federation, tmp_path: Path
) -> None:
    folder_federation.start()
    job = folder_federation.job(*QUICK, "federation.rounds=3", "federation.roster_changes=remove")
    folder, reports = RunFolder(tmp_path / "run"), []
    for report in job.rounds(job.start(folder, overwrite=False), folder):
        reports.append(report)
        if report.round_number == 1:
            change(folder_federation, ChangeKind.REVOKED, GONE, reason="key lost")
    job.finish(folder)
    stayed = tuple(site for site in folder_federation.sites if site != GONE)
    assert [report.sites for report in reports] == [folder_federation.sites, stayed, stayed]
    why = "revoked by the federation's owner, epoch 2: key lost"
    assert [report.failures for report in reports] == [{}, {GONE: why}, {GONE: why}]
    # Every site has the roster, its log says so, and the one that is out hears and stops.
    first, second = folder_federation.server.rosters().rosters
    for name in folder_federation.sites:
        place = folder_federation.site(name)
        assert place.rosters().rosters == (first, second)
        (line,) = (line for line in place.audit().lines() if line["event"] == "roster")
        assert (line["epoch"], line["why"]) == (2, f"{GONE} revoked (key lost)")
    # Both epochs are in the evidence, and in the report.
    entries = read_ledger(ledger_file(folder.path)).of(Event.ROSTER)
    assert [entry.facts for entry in entries] == [
        {"sha256": first.hash.hex(), "epoch": 1},
        {
            "sha256": second.hash.hex(),
            "epoch": 2,
            "round": 2,
            "changes": [{"party": GONE, "kind": "revoked", "reason": "key lost"}],
        },
    ]
    _verify(folder_federation, folder)


def _verify(federation, folder: RunFolder) -> None:
    server = federation.server
    written = write_report(
        folder.path, identity=server.identity(server.roster()), edition=Edition.CONFIDENTIAL
    )
    path = written.folder / "report.json"
    rosters = load_roster(server.path / "roster.bin", owner_key=None)
    found = verify_report(path, evidence=folder.path, roster=rosters)
    assert found.failed == ()
    assert "roster epochs 1 to 2" in {check.name for check in found.checks}
    assert found.report.value("D3.keys")["roster epochs"] == [
        "1 (round 0)",
        f"2 (round 2: site {GONE} revoked by the owner (key lost))",
    ]
    # A reader who pinned the first roster alone finds the rest in the evidence.
    first = RosterChain.of(rosters.signed[:1], owner_key=rosters.first.owner_key)
    assert verify_report(path, evidence=folder.path, roster=first).failed == ()
    # Another history of the owner, or somebody else's, is found there.
    kept = rosters_file(folder.path).read_bytes()
    owner = Identity("owner", seed=(federation.root / "f/owner/owner.key").read_bytes())
    other = first.extended(
        owner,
        server_key=first.current.server_key,
        keys=dict(first.current.members[1:]),
        changes=[RosterChange(kind=ChangeKind.REVOKED, party="site-01")],
    )
    for content, said in (
        (other.to_bytes(), "another history"),
        (encode([b"x", kept]), "not signed by the pinned owner"),
    ):
        rosters_file(folder.path).write_bytes(content)
        found = verify_report(path, evidence=folder.path, roster=rosters)
        assert said in " ".join(check.detail for check in found.failed)
    rosters_file(folder.path).unlink()
    named = verify_report(path, evidence=folder.path, roster=first).failed
    assert "another federation or roster" in " ".join(check.detail for check in named)
    rosters_file(folder.path).write_bytes(kept)


@pytest.mark.long
def test_plan_without_approved_changes_stops_and_says_what_to_do(
    folder_federation, tmp_path: Path
) -> None:
    folder_federation.start()
    job = folder_federation.job(*QUICK)
    folder = RunFolder(tmp_path / "run")
    rounds = job.rounds(job.start(folder, overwrite=False), folder)
    next(rounds)
    change(folder_federation, ChangeKind.SUSPENDED, GONE)
    said = r"epoch 1, and epoch 2 is in force .*roster_changes=none\): propose a new plan"
    with pytest.raises(TrainingError, match=said):
        next(rounds)
    (failed,) = read_ledger(ledger_file(folder.path)).of(Event.FAILED)
    assert failed.facts == {"round": 2, "kind": "TrainingError"}
    # Nor does it resume; a plan over the four would be another one.
    with pytest.raises(ConfigError, match="propose a new plan"):
        folder_federation.job(*QUICK, roster_hash=planned_roster_hash(folder))


@pytest.mark.long
def test_suspended_site_comes_back_when_the_owner_resumes_it(
    folder_federation, tmp_path: Path
) -> None:
    """Also over an interruption: the run is resumed under the roster that its plan names."""
    folder_federation.start()
    settings = (*QUICK, "federation.rounds=3", "federation.roster_changes=remove")
    job = folder_federation.job(*settings)
    folder = RunFolder(tmp_path / "run")
    state = job.start(folder, overwrite=False)
    planned = planned_roster_hash(folder)
    change(folder_federation, ChangeKind.SUSPENDED, GONE)
    rounds = job.rounds(state, folder)
    assert GONE not in next(rounds).sites
    rounds.close()
    again = folder_federation.job(*settings, approved=False, roster_hash=planned)
    assert again.backend.plan == job.backend.plan
    rounds = again.rounds(again.resume(folder), folder)
    assert GONE not in next(rounds).sites
    change(folder_federation, ChangeKind.RESUMED, GONE)
    assert next(rounds).sites == folder_federation.sites
    epochs = [entry.facts["epoch"] for entry in read_ledger(ledger_file(folder.path)).of("roster")]
    assert epochs == [1, 2, 3]

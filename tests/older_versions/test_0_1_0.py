"""Folders that version 0.1.0 wrote: runs resume, plans are approved, its report holds.

The archives beside this file were written by 0.1.0 itself (commit 2e91ccf): four runs of five sites
on 8x8 digits, stopped after two of four rounds; a rehearsal whose plan four of five owners had
signed; a finished run with its report. ``expected.npz`` holds what 0.1.0 resumed the runs to.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.compliance.verification.verify import load_roster, verify_report
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.approval import sign_approval

HERE = Path(__file__).parent / "0.1.0"


def unpack(name: str, path: Path) -> Path:
    with tarfile.open(HERE / f"{name}.tar.gz") as archive:
        archive.extractall(path, filter="data")
    for key in path.rglob("*.key"):
        key.chmod(0o600)
    return path


@pytest.mark.long
@pytest.mark.parametrize("name", ["secure_run", "plaintext_run", "private_run", "site_unit_run"])
def test_a_stopped_run_resumes_to_the_weights_of_then(name: str, tmp_path: Path) -> None:
    folder = RunFolder(unpack(name, tmp_path / "run"))
    federation = Run(SimulatedSites(folder.load_config(), cache_dir=tmp_path / "cache"))
    state = federation.resume(folder)
    assert state.round_number == 2
    for _ in federation.rounds(state, folder):
        pass
    federation.finish(folder)
    final = folder.load_state(config=folder.load_config())
    assert final.round_number == 4
    # Equal bit for bit on one machine; convolutions differ in the last bits between CPUs. A private
    # run draws from other secret streams since then: the same noise in law, and not in bits.
    tolerance = 0.05 if name == "private_run" else 1e-4
    with np.load(HERE / "expected.npz") as expected:
        np.testing.assert_allclose(final.parameters, expected[name], atol=tolerance)


def test_a_federation_still_knows_who_approved_and_lets_the_last_owner_sign(
    tmp_path: Path,
) -> None:
    root = unpack("federation", tmp_path / "federation")
    facts = json.loads((HERE / "federation.json").read_text())
    server = ServerFolder(root / "server")
    roster = server.roster()
    assert server.identity(roster).public_key == roster.server_key
    for name, _ in roster.members:
        place = SiteFolder(root / "sites" / name)
        settings = place.settings()
        assert place.roster().hash == roster.hash
        assert place.identity(settings, roster).public_key == roster.key(name)
        plan = Plan.from_bytes(
            (place.plans / f"{place.find_plan(facts['plan'][:8])}.json").read_bytes()
        )
        assert plan.hash == facts["plan"]
        approver = place.approver(settings)
        assert approver.decide(plan.hash).approved is (name != facts["pending"])
        if name == facts["pending"]:
            owner = place.approver_identity(place.approver_key)
            sign_approval(place.approvals, plan=plan.hash, site=name, owner=owner)
            assert approver.decide(plan.hash).approved


def test_its_report_still_verifies(tmp_path: Path) -> None:
    run = unpack("report", tmp_path / "run")
    found = verify_report(
        run / "report" / "report.json",
        evidence=run,
        roster=load_roster(run / "roster.bin", owner_key=None),
    )
    assert found.exit_code == 0, found.checks
    # Its heads name no plan, and a reader is told.
    said = {each.name: each.detail for each in found.checks}
    for name in ("plan of the ledger", "witnesses"):
        assert "heads of version 0.1.0, which name neither plan nor federation" in said[name]
    assert "made with 2026-11-b" in said["clause map"]


def test_a_changed_weight_is_found_in_its_report(tmp_path: Path) -> None:
    run = unpack("report", tmp_path / "run")
    model = run / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    found = verify_report(run / "report" / "report.json", evidence=run)
    assert found.exit_code not in (0, 7)

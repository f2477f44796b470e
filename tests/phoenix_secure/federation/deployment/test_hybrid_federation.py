"""A federation with lattice keys: from ``deploy init`` to a signed ledger, over folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import Event, read_ledger
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.secagg.keys import RunKeys
from phoenix_secure.federation.server.run import Run
from protocol.suite import Suite

HYBRID = "secure_aggregation.suite=hybrid_pq"


def train(job: Run, folder: RunFolder) -> np.ndarray:
    for _ in job.rounds(job.start(folder, overwrite=True), folder):
        pass
    return folder.load_state(config=job.config).parameters


@pytest.mark.long
def test_run_over_folders_gives_the_weights_of_a_classical_simulation(
    hybrid_federation, tmp_path
) -> None:
    """A simulation of the same sites, with their own secrets and the other suite."""
    federation = hybrid_federation
    roster = federation.server.roster()
    assert roster.suite is Suite.HYBRID_PQ
    federation.start()
    job, folder = federation.job(HYBRID, "federation.rounds=1"), RunFolder(tmp_path / "run")
    trained = train(job, folder)
    ledger = read_ledger(ledger_file(folder.path), server_key=roster.server_key)
    witnessed = ledger.of(Event.WITNESSED)[-1].facts
    assert (set(witnessed["signatures"]), witnessed["missing"]) == (set(federation.sites), {})
    classical = federation.simulation(job, suite="classical")
    assert classical.config.secure_aggregation.suite == "classical"
    np.testing.assert_array_equal(trained, train(classical, RunFolder(tmp_path / "here")))


def test_keys_of_a_simulation_are_of_its_suite_and_read_back(tmp_path: Path) -> None:
    made = RunKeys.create(tmp_path, sites=["a", "b"], suite=Suite.HYBRID_PQ)
    read = RunKeys.load(tmp_path, sites=["a", "b"])
    assert read.roster == made.roster
    assert read.sites["a"].public_key == made.roster.key("a")
    # What signs a report knows the suite by the owner's key in the folder.
    assert server_identity(tmp_path).public_key == made.roster.server_key


def test_plan_of_the_other_suite_is_not_offered(hybrid_federation) -> None:
    with pytest.raises(ConfigError, match=r"set secure_aggregation\.suite=hybrid_pq"):
        hybrid_federation.job()

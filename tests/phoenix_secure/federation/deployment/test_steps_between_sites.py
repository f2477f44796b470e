"""Private sums of gradients between sites with folders, ledgers and policies of their own."""

from __future__ import annotations

import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger

STEPS = [
    "federation.exchange=gradients",
    "federation.rounds=2",
    "federation.server_optimizer=fedadam",
    "training.local_steps=1",
    "training.batch_size=8",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=5",
    "privacy.sampling_rate=0.2",
]


def train(job, path):
    folder = RunFolder(path)
    for _ in job.rounds(job.start(folder, overwrite=True), folder):
        pass
    return job.finish(folder)


@pytest.mark.long
def test_every_site_charges_every_step_within_its_own_total(folder_federation, tmp_path) -> None:
    policy = {"max_epsilon": 6.0, "privacy_trust": ["sum"], "max_total_epsilon": 6.0}
    for number in range(1, 6):
        folder_federation.change(f"site-0{number}", policy=policy)
    folder_federation.start()
    job = folder_federation.job(*STEPS)
    train(job, tmp_path / "run")

    for site in job.backend.sites:
        ledger = PrivacyLedger(folder_federation.site(site).path / "privacy.jsonl")
        assert [each.round_number for each in ledger.releases()] == [1, 2]
        assert {each.plan for each in ledger.releases()} == {job.backend.plan.hash}
        assert all(isinstance(event, DiscreteGaussianSum) for event in ledger.events())
        assert 4.8 < epsilon_of(ledger.events(), delta=1e-5).value <= 5
    guarantee = read_summary(tmp_path / "run").guarantee
    assert "at most 1 of 5 sites work with the server" in guarantee["text"]
    assert guarantee["steps"] == 2


def test_an_owner_who_asks_for_noise_of_its_own_refuses(folder_federation, tmp_path) -> None:
    for site in ("site-01", "site-02"):
        folder_federation.change(site, policy={"max_epsilon": 20.0})
    folder_federation.start()
    job = folder_federation.job(*STEPS)

    with pytest.raises(TrainingError, match=r"site-01: refused, site-02: refused\)"):
        train(job, tmp_path / "run")

"""A release over real sites: one round, each site's own ledger and policy, a generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phoenix_secure.data.own_images import in_public_classes
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.release.generator import load_generator

RELEASE = [
    "federation.rounds=1",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=10",
    "release.features=hog",
    "release.num_features=32",
    "release.max_images=256",
    f"release.class_names={[str(digit) for digit in range(10)]}",
    "release.fit_steps=2",
    "release.fit_batch=40",
]


def train(job, path):
    folder = RunFolder(path)
    for _ in job.rounds(job.start(folder, overwrite=True), folder):
        pass
    return job.finish(folder)


@pytest.mark.long
def test_one_round_between_sites_makes_a_generator(folder_federation, tmp_path) -> None:
    folder_federation.start()
    job = folder_federation.job(*RELEASE)
    train(job, tmp_path / "run")

    for site in job.backend.sites:
        ledger = PrivacyLedger(folder_federation.site(site).path / "privacy.jsonl")
        (release,) = ledger.releases()
        assert release.plan == job.backend.plan.hash
        assert isinstance(release.event, DiscreteGaussianSum)
    fitted = load_generator(tmp_path / "run" / "model", device=torch.device("cpu"))
    assert fitted.class_names == tuple("0123456789")
    assert fitted.known
    summary = read_summary(tmp_path / "run")
    assert summary.deployment is not None
    assert "at most 1 of 5 sites" in summary.guarantee["text"]


def test_an_owner_who_asks_for_noise_of_its_own_refuses(folder_federation, tmp_path) -> None:
    for site in ("site-01", "site-02"):
        folder_federation.change(site, policy={"max_epsilon": 20.0})
    for site in ("site-03", "site-04", "site-05"):
        folder_federation.change(site, policy={"max_epsilon": 20.0, "privacy_trust": ["sum"]})
    folder_federation.start()
    job = folder_federation.job(*RELEASE)

    with pytest.raises(TrainingError, match=r"site-01: refused, site-02: refused\)"):
        train(job, tmp_path / "run")


def test_classes_must_be_named(folder_federation) -> None:
    unnamed = [text for text in RELEASE if "class_names" not in text]
    with pytest.raises(ConfigError, match=r"release\.class_names"):
        folder_federation.job(*unnamed, approved=False)


def test_labels_follow_names_and_not_what_a_site_holds() -> None:
    site = SiteImages(images=np.zeros((4, 1, 8, 8), np.uint8), labels=np.array([0, 1, 2, 1]))
    mapped = in_public_classes(site, own=("cat", "dog", "eel"), public=("eel", "ant", "dog"))

    assert mapped.labels is not None
    assert mapped.labels.tolist() == [-1, 2, 0, 2]
    assert in_public_classes(site, own=("cat",), public=()) is site


CLASSIFIER = [
    "model.network=classifier",
    "federation.exchange=gradients",
    "federation.rounds=2",
    "federation.server_optimizer=fedavgm",
    "training.optimizer=sgd",
    "training.local_steps=1",
    "training.learning_rate=1",
    "training.grad_clip=null",
    "training.batch_size=40",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=6",
    "privacy.with_start=true",
    "privacy.sampling_rate=1",
    "privacy.clip_norm=0.3",
    "ema.decay=0",
    f"data.class_names={[str(digit) for digit in range(10)]}",
]


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["sum", "site-local"])
def test_a_classifier_selects_a_release_s_images_for_the_rest_of_its_epsilon(
    folder_federation, tmp_path, trust
) -> None:
    policy = {"max_epsilon": 6.0, "privacy_trust": [trust], "max_total_epsilon": 6.1}
    local = [f"privacy.trust={trust}"]
    for site in folder_federation.sites:
        folder_federation.change(site, policy=policy)
    folder_federation.start()
    train(folder_federation.job(*RELEASE, "privacy.epsilon=4", *local), tmp_path / "release")
    job = folder_federation.job(*CLASSIFIER, f"model.init_from={tmp_path / 'release'}", *local)
    train(job, tmp_path / "run")

    fitted = load_generator(tmp_path / "run" / "model", device=torch.device("cpu"))
    assert fitted.classifier is not None
    assert fitted.class_names == tuple(str(digit) for digit in range(10))
    for site in job.backend.sites:
        ledger = PrivacyLedger(folder_federation.site(site).path / "privacy.jsonl")
        assert [each.round_number for each in ledger.releases()] == [1, 1, 2]
        assert 5.8 < epsilon_of(ledger.events(), delta=1e-5).value <= 6

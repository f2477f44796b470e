"""A whole release that protects persons: what is printed, kept and summed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from built_once import built_once
from command_line import phoenix
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.persons import persons_of
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.release.class_sums import sum_features
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.rng import SeedTree

pytestmark = pytest.mark.slow  # test_class_sums has the sensitivity of persons, quickly
PLANTED = "Jansson^Anna"
SETTINGS = [
    *("data.name=npz", "data.group=array:patient", "data.image_size=8", "data.channels=1"),
    *(
        "partition.num_sites=5",
        "partition.scheme=iid",
        "federation.rounds=1",
        "secure_aggregation.word_bits=32",
    ),
    *("privacy.unit=group", "privacy.trust=sum", "privacy.epsilon=10", "privacy.delta=1e-5"),
    *("release.features=hogpix", "release.num_features=64", "release.max_images=1024"),
    *("release.fit_steps=4", "release.fit_batch=40"),
    *("evaluation.num_images=0", "output.num_samples=4", "device=cpu"),
]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with what it printed beside it. Never change it: copy it."""

    def build(folder: Path) -> None:
        found = load_digits()
        assert found.labels is not None
        numbers = np.arange(found.num_images) // 12  # one after the other, of any class
        np.savez(
            folder / "clinics.npz",
            images=found.images,
            labels=found.labels,
            class_names=np.array(found.class_names, np.str_),
            patient=np.array([f"{PLANTED}-{number}" for number in numbers], np.str_),
        )
        (folder / "clinics.yaml").write_text("data: {path: clinics.npz}\n")
        outcome = phoenix("run", "clinics.yaml", "--run-dir", "run", *SETTINGS, cwd=folder)
        assert outcome.code == 0, outcome.err
        (folder / "printed.txt").write_text(outcome.out)

    return built_once(tmp_path_factory, "group-released", build)


def sites_of(folder: Path) -> SimulatedSites:
    config = RunFolder(folder / "run").load_config()
    return SimulatedSites(config, cache_dir=folder / "unused")


def test_the_guarantee_is_of_all_images_of_one_person_of_one_site(released: Path) -> None:
    printed = " ".join((released / "printed.txt").read_text().split())
    guarantee = read_summary(released / "run").guarantee
    assert guarantee is not None
    wanted = "differential privacy per group (add or remove all images of one person of one site)"
    assert wanted in printed
    assert wanted in guarantee["text"]
    assert guarantee["epsilon"] <= 10
    assert "each person's sum clipped" in guarantee["mechanism"]


def test_every_site_spends_one_release_of_persons(released: Path) -> None:
    sites = sites_of(released)
    assert sites.privacy is not None
    for name in sites.sites:
        file = released / "run" / "sites" / name / "privacy.jsonl"
        (release,) = PrivacyLedger(file).releases()
        assert release.event == sites.privacy.event
        assert release.event.unit == "group"


def test_the_sum_is_of_persons_and_not_of_images(released: Path) -> None:
    sites, folder = sites_of(released), RunFolder(released / "run")
    layout, terms = sites.strategies.release, sites.terms
    assert layout is not None
    assert terms is not None
    assert terms.grid is not None
    assert terms.noise is not None
    features = FeatureMap(layout, seeds=SeedTree(0))

    def exact(by_person: bool) -> np.ndarray:
        total = np.zeros(layout.num_words)
        for name in sites.sites:
            site = sites.partition.site_images(name)
            persons = persons_of(site.groups, num_images=len(site.images)) if by_person else None
            found = sum_features(
                site,
                features,
                grid=terms.grid,
                num_classes=layout.num_classes,
                persons=persons,
            )
            total += found.words
        return total

    state = folder.load_state(config=folder.load_config())
    published = state.parameters.astype(np.float64) * 5 * terms.scale
    deviation = math.sqrt(5 * terms.noise.share_variance)
    assert (published - exact(True)).std() == pytest.approx(deviation, rel=0.1)
    # Must fail image by image: then each person counts up to twelve times.
    assert (published - exact(False)).std() > 2 * deviation


def test_no_identifier_is_in_the_run(released: Path) -> None:
    files = [file for file in (released / "run").rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not any(PLANTED.encode() in file.read_bytes() for file in files)
    assert PLANTED not in (released / "printed.txt").read_text()

"""A release whose sites noise for themselves: one place, and ten sites that trust nobody."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.summary import read_summary
from phoenix_secure.federation.secagg.terms import summed_noise
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger
from phoenix_secure.release.class_sums import sum_features
from phoenix_secure.release.features import FeatureMap
from phoenix_secure.rng import SeedTree

SETTINGS = [
    "data.name=digits",
    "federation.rounds=1",
    "secure_aggregation.word_bits=32",
    "privacy.unit=record",
    "privacy.epsilon=10",
    "privacy.delta=1e-5",
    "release.features=hogpix",
    "release.num_features=64",
    "release.max_images=2048",
    "release.fit_steps=2",
    "release.fit_batch=40",
    "evaluation.num_images=0",
    "output.num_samples=4",
    "device=cpu",
]
ONE_PLACE = ["partition.num_sites=1", "partition.scheme=iid", "secure_aggregation.mode=off"]
FIVE_SITES = ["partition.num_sites=5", "partition.scheme=iid"]


def sites_of(*overrides: str) -> SimulatedSites:
    return SimulatedSites(load_config(None, [*SETTINGS, *overrides]), cache_dir=Path("unused"))


def noise_of(sites: SimulatedSites, path: Path) -> np.ndarray:
    """Of the whole sum of a finished run, in steps."""
    run, folder = Run(sites), RunFolder(path)
    list(run.events(run.start(folder, overwrite=False), folder))
    run.finish(folder)
    layout = sites.strategies.release
    assert layout is not None
    made = summed_noise(sites.config, terms=sites.terms, layout=layout)
    features = FeatureMap(layout, seeds=SeedTree(0))
    exact = sum(
        sum_features(
            sites.partition.site_images(name), features, grid=made.grid, num_classes=10
        ).words.astype(np.float64)
        for name in sites.sites
    )
    state = folder.load_state(config=folder.load_config())
    return state.parameters.astype(np.float64) * len(sites.sites) * made.grid.steps - exact


@pytest.mark.long
@pytest.mark.parametrize("where", [ONE_PLACE, FIVE_SITES], ids=["one place", "five sites"])
def test_every_site_adds_all_the_noise_that_its_guarantee_names(
    where: list[str], tmp_path: Path
) -> None:
    sites = sites_of(*where)
    found = noise_of(sites, tmp_path / "run")

    assert sites.privacy is not None
    event = sites.privacy.event
    assert isinstance(event, DiscreteGaussianSum)
    assert event.num_shares == 1
    assert found.std() == pytest.approx(math.sqrt(len(sites.sites) * event.share_variance), rel=0.1)
    for name in sites.sites:
        ledger = PrivacyLedger.open(tmp_path / "run" / "sites" / name / "privacy.jsonl")
        assert ledger.events() == (event,)
    guarantee = read_summary(tmp_path / "run").guarantee
    assert guarantee is not None
    assert 9.9 < guarantee["epsilon"] <= 10
    assert "discrete Gaussian noise at each site" in guarantee["text"]
    assert "trust" not in guarantee  # nobody's


def test_one_place_needs_as_much_noise_as_the_gaussian_mechanism() -> None:
    place, five = sites_of(*ONE_PLACE), sites_of(*FIVE_SITES, "privacy.trust=sum")

    assert place.privacy is not None
    assert five.privacy is not None
    assert place.privacy.noise_multiplier == pytest.approx(five.privacy.noise_multiplier, rel=2e-3)


def test_a_sum_that_sites_noise_together_needs_secure_aggregation() -> None:
    with pytest.raises(ConfigError, match=r"needs secure_aggregation\.mode=on"):
        sites_of(*ONE_PLACE, "privacy.trust=sum")

"""The server's view: the very updates of the run, and what their sum hides."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.audit.federated_view import (
    _cosines,
    _records,
    federated_view,
    retrained_updates,
)
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.round_loss import RoundLoss
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target
from phoenix_secure.config_file import load_config
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.partition import partition_images
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import to_vector

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def five_sites(train, tmp_path_factory) -> Target:
    path = train(
        tmp_path_factory.mktemp("five") / "run",
        "partition.num_sites=5",
        *("model.block_channels=[16]", "model.attention=[false]", "model.mid_attention=false"),
        "data.max_images=200",
        "data.held_out=0.4",
        "data.reference=0.2",
        "training.batch_size=8",
        "training.local_steps=20",
        "federation.rounds=3",
        "output.keep_checkpoints=4",
    )
    files = dict.fromkeys(("members", "non_members", "reference"))
    return open_target(path, **files, device="cpu", cache_dir=path)


@pytest.mark.slow
def test_the_retrained_round_leads_to_the_next_checkpoint(five_sites: Target) -> None:
    config = five_sites.config
    assert config is not None
    assert five_sites.run is not None
    before, after = five_sites.run.load_states(config=config)[-2:]
    partition = partition_images(config, seeds=SeedTree(config.seed), cache_dir=five_sites.run.path)
    updates = retrained_updates(
        before, config=config, partition=partition, device=torch.device("cpu")
    )
    sizes = [len(part) for part in partition.parts.values()]
    mean = np.average([update.astype(np.float64) for update in updates.values()], 0, sizes)
    np.testing.assert_allclose(before.parameters + mean, after.parameters, atol=1e-6)


def test_single_updates_give_members_away_and_their_sum_less(five_sites: Target) -> None:
    assert five_sites.run is not None
    report = federated_view(
        five_sites, cache_dir=five_sites.run.path, seeds=SeedTree(1), max_records=40
    )
    assert report.rounds == (1, 2, 3)
    found = {(row.view.split()[0], row.attack): row.auc.value for row in report.rows}
    single = max(found["every", "cosine"], found["every", "FedMIA"])
    assert single > 0.62, found
    assert found["the", "cosine"] < single - 0.1, found


def test_a_target_without_sites_is_refused(tmp_path: Path, five_sites: Target) -> None:
    with pytest.raises(ConfigError, match="needs a run folder"):
        federated_view(
            dataclasses.replace(five_sites, run=None), cache_dir=tmp_path, seeds=SeedTree(0)
        )


def test_an_impossible_federated_view_is_refused_before_any_attack(
    tmp_path: Path, five_sites: Target
) -> None:
    request = Request(profile=profile_named("smoke"), attacks=("loss",), federated=True)
    with pytest.raises(ConfigError, match="needs a run folder"):
        run_audit(dataclasses.replace(five_sites, run=None), request, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_class_that_one_site_holds_is_not_taken_for_membership(tmp_path: Path) -> None:
    """Each non-member is compared with a site that holds its class, or class would tell."""
    changes = ["partition.scheme=shards", "partition.shards_per_site=2", "partition.num_sites=5"]
    config = load_config(None, ["data.name=digits", "data.max_images=400", *changes])
    partition = partition_images(config, seeds=SeedTree(config.seed), cache_dir=tmp_path)
    x, _, suspects = _records(partition, config, seeds=SeedTree(1), max_records=60)
    images, labels = partition.image_set.images, partition.image_set.labels
    assert labels is not None
    held = [set(labels[part].tolist()) for part in partition.parts.values()]
    assert min(len(classes) for classes in held) < 8  # a site at random would often lack the class
    label_of = {to_unit_range(x).tobytes(): int(y) for x, y in zip(images, labels, strict=True)}
    for image, site in zip(x.images, suspects, strict=True):
        assert label_of[image.tobytes()] in held[site]


def test_each_image_is_asked_for_under_its_own_class(tmp_path: Path) -> None:
    """Asked as the null class, which training rarely meets, an image's gradient is another."""
    changes = [
        "model.class_conditional=true",
        "model.block_channels=[16]",
        "model.attention=[false]",
    ]
    changes += ["model.mid_attention=false", "partition.num_sites=3"]
    config = load_config(None, ["data.name=digits", "data.max_images=100", *changes])
    partition = partition_images(config, seeds=SeedTree(config.seed), cache_dir=tmp_path)
    x, _, _ = _records(partition, config, seeds=SeedTree(1), max_records=3)
    assert x.labels is not None
    network = build_unet(config.model, image_size=8, channels=1, num_classes=10, seeds=SeedTree(0))
    rng = np.random.default_rng(0)
    vector = to_vector(network) + 0.3 * rng.standard_normal(to_vector(network).shape)
    state = ServerState.initial(vector.astype(np.float32), federation=config.federation)
    loss = RoundLoss(
        state, config, partition, device=torch.device("cpu"), seeds=SeedTree(2), num_draws=2
    )
    updates = rng.standard_normal((3, len(vector))).astype(np.float32)
    found = _cosines(x, losses=[loss], updates=[updates])
    assert found.shape == (1, 6, 3)
    for k, (image, label) in enumerate(zip(x.images, x.labels, strict=True)):
        for asked, is_same in ((int(label), True), (-1, False)):
            gradient = loss.gradient(image, label=asked).astype(np.float64)
            lengths = np.linalg.norm(gradient) * np.linalg.norm(updates, axis=1)
            slow = -(updates.astype(np.float64) @ gradient) / lengths
            assert np.allclose(found[0, k], slow, rtol=0, atol=1e-6) is is_same

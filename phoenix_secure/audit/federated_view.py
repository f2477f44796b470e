"""Attacks on a server's view: the sites' updates of the last rounds, one by one and as a sum.

The rounds whose starting checkpoint is still kept are trained again at every site, which gives each
site's update exactly as the run made it. The attacker holds the model that was sent out and either
every update or their sum, and asks which one points where an image's gradient does.
Source:     ``attacks.federated.updates`` (Li et al. 2023; Zhu et al. 2025).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.federated.updates import ObservedRound, cosines, fedmia_score
from attacks.records import Scores
from attacks.statistics.auc import auc
from attacks.statistics.roc import roc, tpr_at_fpr
from phoenix_secure.audit.figures import tpr_report
from phoenix_secure.audit.questions import score_by_class
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.report import FederatedReport, FederatedRow
from phoenix_secure.audit.round_loss import RoundLoss
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.units import figure
from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.partition import DataPartition, partition_images
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.round.cohort import draw_cohort
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradients import plain_trainer

__all__ = ["federated_view", "require_federated", "retrained_updates"]

_MAX_RECORDS = 300  # members, and as many non-members
_NUM_DRAWS = 8  # timesteps and noises that a record's gradient is averaged over
_FPR = 0.01
Progress = Callable[[str, int, int], object]


def federated_view(
    target: Target,
    *,
    cache_dir: Path,
    seeds: SeedTree,
    max_records: int = _MAX_RECORDS,
    progress: Progress = lambda what, k, n: None,
) -> FederatedReport:
    """The same attacker with every site's update, and with their sum alone.

    A non-member is compared with the site of a random member of its class. With a site sampled from
    all, a class that is frequent at one site would pass for membership.

    Raises:     ConfigError for a target that is not a run folder, or whose sites did more than
                plain local steps; CheckpointError when no round can be trained again.
    """
    started = time.perf_counter()
    run, config, states = require_federated(target)
    root = SeedTree(config.seed)
    partition = partition_images(config, seeds=root, cache_dir=cache_dir)
    run.check_split(partition.split, image_set=partition.image_set)
    device = pick_devices(config.device)[0]
    x, membership, suspects = _records(partition, config, seeds=seeds, max_records=max_records)
    names = list(partition.parts)
    losses, updates = [], []
    for number, state in enumerate(states):
        progress("training a round again", number, len(states))
        found = retrained_updates(state, config=config, partition=partition, device=device)
        updates.append(np.stack([found[name] for name in names]))
        losses.append(
            RoundLoss(
                state,
                config,
                partition,
                device=device,
                seeds=seeds.child("federated-noise"),
                num_draws=_NUM_DRAWS,
            )
        )
    progress("gradients", 0, 1)
    single = _cosines(x, losses=losses, updates=updates)
    # Gradients are the costly part: the sum's cosine follows from the single updates' norms.
    joint = _of_sum(single, updates)
    rows = [
        _row("every site's update", "cosine", _own(single, suspects), membership),
        _row("the sum alone (secure aggregation)", "cosine", joint, membership),
    ]
    if len(names) >= 3:
        fed = np.stack([fedmia_score(single, site=k) for k in range(len(names))], axis=1)
        scores = fed[np.arange(len(membership)), suspects]
        rows.insert(1, _row("every site's update", "FedMIA", scores, membership))
    return FederatedReport(
        rounds=tuple(state.round_number + 1 for state in states),
        secure_aggregation=config.secure_aggregation.mode,
        num_members=int(membership.sum()),
        num_non_members=int((~membership).sum()),
        rows=tuple(rows),
        seconds=time.perf_counter() - started,
    )


def require_federated(target: Target) -> tuple[RunFolder, RunConfig, list[ServerState]]:
    """The run, and states to train a round again from; asked before hours of attacks.

    Raises:     as ``federated_view``.
    """
    if target.run is None or target.config is None:
        raise ConfigError("--federated needs a run folder: only a run knows its sites")
    _require_plain(target.config)
    states = _starts(target.run.load_states(config=target.config), target.config)
    return target.run, target.config, states


def retrained_updates(
    state: ServerState, *, config: RunConfig, partition: DataPartition, device: torch.device
) -> dict[str, NDArray[np.float32]]:
    """Each site's update of the round after ``state``, as the run made it."""
    torch.set_num_threads(config.federation.threads_per_site)
    trainer = plain_trainer(config, num_classes=partition.image_set.num_classes, device=device)
    number = state.round_number + 1
    return {
        name: trainer.train(
            state.parameters,
            partition.site_images(name),
            round_number=number,
            seeds=SeedTree(config.seed).child("site", name, "round", number),
        ).delta
        for name in partition.parts
    }


def _require_plain(config: RunConfig) -> None:
    plain = (
        config.privacy.unit == "none"
        and config.sharing.source == "none"
        and config.exchange == type(config.exchange)()
        and config.filtering == type(config.filtering)()
    )
    if not plain:
        raise ConfigError(
            "--federated trains a round again, and this run's sites did more than plain local "
            "steps (privacy, sharing, exchange or filtering): audit without --federated"
        )


def _starts(states: list[ServerState], config: RunConfig) -> list[ServerState]:
    """States that a round of all sites followed."""
    found = []
    for state in states:
        number = state.round_number + 1
        cohort = draw_cohort(
            tuple(map(str, range(config.partition.num_sites))),
            participation=config.federation.participation,
            min_sites=config.federation.min_sites,
            rng=SeedTree(config.seed).child("cohort", number).numpy(),
        )
        if number <= config.federation.rounds and len(cohort) == config.partition.num_sites:
            found.append(state)
    if not found:
        raise CheckpointError(
            "no kept checkpoint starts a round in which all sites took part: raise "
            "output.keep_checkpoints to at least 2 and set federation.participation=1"
        )
    return found


def _records(
    partition: DataPartition, config: RunConfig, *, seeds: SeedTree, max_records: int
) -> tuple[Records, NDArray[np.bool_], NDArray[np.int64]]:
    """Members, then non-members; which are members; and each one's suspected site."""
    rng = seeds.child("federated-records").numpy()
    image_set = partition.image_set
    parts = list(partition.parts.values())
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    index = np.concatenate(parts)
    size = min(max_records, len(index), len(partition.split.held_out))
    chosen = rng.permutation(len(index))[:size]
    others = rng.permutation(partition.split.held_out)[:size]
    labels = image_set.labels
    suspects = [int(owner[k]) for k in chosen]
    draw = seeds.child("suspects").numpy()
    for k in others:
        alike = np.arange(len(index))
        if labels is not None:
            same = np.flatnonzero(labels[index] == labels[k])
            alike = same if len(same) else alike
        suspects.append(int(owner[draw.choice(alike)]))
    index_of = np.concatenate([index[chosen], others])
    records = Records(
        images=to_unit_range(image_set.images[index_of]),
        labels=labels[index_of] if labels is not None and config.model.class_conditional else None,
    )
    membership = np.arange(len(index_of)) < size
    return records, membership, np.asarray(suspects, dtype=np.int64)


def _cosines(
    x: Records, *, losses: list[RoundLoss], updates: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """(rounds, images, sites); a class-conditional model is asked for each image's own class, as
    it was in training."""

    def of_class(part: Records, label: int) -> NDArray[np.float64]:
        rounds = [
            ObservedRound(gradients=loss.gradients(label), updates=update)
            for loss, update in zip(losses, updates, strict=True)
        ]
        return np.moveaxis(cosines(part.images, rounds=rounds), 1, 0)

    return np.moveaxis(score_by_class(x, of_class), 0, 1)


def _own(cosine: NDArray[np.float64], suspects: NDArray[np.int64]) -> Scores:
    """Each record's mean cosine with the update of its suspected site."""
    return np.asarray(
        cosine[:, np.arange(cosine.shape[1]), suspects].mean(axis=0), dtype=np.float64
    )


def _of_sum(cosine: NDArray[np.float64], updates: list[NDArray[np.float32]]) -> Scores:
    """cos(g, sum u) = sum_k cos(g, u_k) |u_k| / |sum u|, averaged over rounds."""
    per_round = []
    for of_round, update in zip(cosine, updates, strict=True):
        norms = np.linalg.norm(update.astype(np.float64), axis=1)
        total = float(np.linalg.norm(update.sum(axis=0, dtype=np.float64)))
        per_round.append(of_round @ norms / total)
    return np.asarray(np.mean(per_round, axis=0), dtype=np.float64)


def _row(view: str, attack: str, scores: Scores, membership: NDArray[np.bool_]) -> FederatedRow:
    area = auc(scores, membership=membership)
    found = tpr_at_fpr(roc(scores, membership=membership), target=_FPR)
    return FederatedRow(
        view=view, attack=attack, auc=figure(area.value, area.interval), tpr=tpr_report(found)
    )

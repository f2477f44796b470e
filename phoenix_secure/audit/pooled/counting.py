"""A site's part: whom it counts, scores under the model that it verified, histograms."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from attacks.records import Images, Scores
from attacks.statistics.blind import blind_baseline
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.pooled.attack_list import POOLED, PooledAttack
from phoenix_secure.audit.pooled.bins import unit_bins
from phoenix_secure.audit.pooled.moments import moments_of, quantised_features
from phoenix_secure.audit.pooled.units import Selection, SideUnits, select
from phoenix_secure.audit.questions import score_by_class
from phoenix_secure.audit.records import Records
from phoenix_secure.config import RunConfig
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.device import num_cores, pick_devices
from phoenix_secure.diffusion.sampling import build_pipeline
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.secagg.pooled_layout import (
    AttackCounts,
    PooledCounts,
    PooledLayout,
    SideCounts,
)
from phoenix_secure.federation.site.pooled_audit import AuditedImages
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import load_vector
from phoenix_secure.workers import workers

__all__ = ["SiteExaminer", "count_scores", "denoiser_of"]

Keep = Callable[[AuditedImages, PooledCounts, float], object]


class SiteExaminer:
    """Counts for one site (a ``federation.site.pooled_audit.Examiner``).

    keep   takes the site's own counts and the seconds they took: for its confidential report
    """

    def __init__(self, *, keep: Keep = lambda images, counts, seconds: None) -> None:
        self._keep = keep

    def able(self, images: AuditedImages, *, layout: PooledLayout) -> PooledCounts:
        """A 1 where there are images enough, in all and of each class; every count is zero."""
        chosen = _selected(images, layout)
        return _answered(layout, chosen)

    def count(
        self,
        images: AuditedImages,
        *,
        layout: PooledLayout,
        parameters: np.ndarray,
        classes: frozenset[int],
    ) -> PooledCounts:
        """The histograms of the site; zeros where it has too few images.

        Raises:     CheckpointError or ValueError for a model that answers NaN.
        """
        started, chosen = time.perf_counter(), _selected(images, layout)
        empty = _answered(layout, chosen)
        if not empty.entered:
            return empty
        model = denoiser_of(images.config, parameters)
        scores = {
            attack.name: (
                _unit_scores(attack, chosen.members, model, seed=images.config.seed),
                _unit_scores(attack, chosen.others, model, seed=images.config.seed),
            )
            for attack in POOLED
        }
        own = count_scores(scores, chosen, layout=layout, blind=_blind(chosen, images.seeds))
        with workers(num_cores()):
            features = quantised_features(
                to_unit_range(chosen.others.images.images[: layout.max_images])
            )
        own = dataclasses.replace(own, moments=moments_of(features))
        self._keep(images, own, time.perf_counter() - started)
        zeros = np.zeros(layout.num_bins, np.int64)
        return dataclasses.replace(
            own,
            classes=tuple(
                side if number in classes else SideCounts(members=zeros, others=zeros)
                for number, side in enumerate(own.classes)
            ),
        )


def count_scores(
    scores: dict[str, tuple[Scores, Scores]],
    chosen: Selection,
    *,
    layout: PooledLayout,
    blind: tuple[Scores, Scores] | None,
) -> PooledCounts:
    """Histograms of scores, one a unit: of members and of others for each attack.

    blind   scores in [0, 1] of the baseline without the model; None where it cannot be estimated
    """
    places = {
        attack.name: tuple(
            attack.bins.of(side, num_bins=layout.num_bins) for side in scores[attack.name]
        )
        for attack in POOLED
    }
    coins = chosen.others.coins

    def histogram(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.bincount(bins, minlength=layout.num_bins).astype(np.int64)

    found = _answered(layout, chosen)
    first, second = places[POOLED[0].name]
    classes = []
    for label in range(layout.num_classes):
        ours, theirs = chosen.of_class(label)
        if not found.able[label]:
            ours, theirs = ours[:0], theirs[:0]
        classes.append(SideCounts(members=histogram(first[ours]), others=histogram(second[theirs])))
    if blind is not None:
        ranked = [unit_bins(side, num_bins=layout.num_bins) for side in blind]
        found = dataclasses.replace(
            found, blind=SideCounts(members=histogram(ranked[0]), others=histogram(ranked[1]))
        )
    return dataclasses.replace(
        found,
        attacks=tuple(
            AttackCounts(
                members=histogram(members),
                pseudo_members=histogram(others[coins]),
                pseudo_others=histogram(others[~coins]),
            )
            for members, others in places.values()
        ),
        classes=tuple(classes),
    )


def denoiser_of(config: RunConfig, parameters: np.ndarray) -> PipelineDenoiser:
    """The model with these weights, as attacks ask it."""
    device = pick_devices(config.device)[0]
    network = build_unet(
        config.model,
        image_size=config.data.image_size or 0,
        channels=config.data.channels or 0,
        num_classes=len(config.data.class_names),
        seeds=SeedTree(config.seed),
    ).to(device)
    load_vector(network, parameters)
    return PipelineDenoiser(build_pipeline(network, config), device=device)


def _selected(images: AuditedImages, layout: PooledLayout) -> Selection:
    def counted(side: SiteImages) -> SiteImages:
        # Persons only where the plan counts them: else units would differ between sites.
        has_persons = images.config.data.group is not None
        return side if has_persons else dataclasses.replace(side, groups=None)

    return select(
        counted(images.members),
        counted(images.held_out),
        most=layout.max_images,
        key=images.seeds.child("order").entropy().to_bytes(32, "big"),
        by_class=layout.num_classes > 0,
    )


def _answered(layout: PooledLayout, chosen: Selection) -> PooledCounts:
    least = layout.min_images
    able = [
        chosen.num_units >= least and len(chosen.of_class(label)[0]) >= least
        for label in range(layout.num_classes)
    ]
    return dataclasses.replace(
        layout.empty(),
        answered=1,
        entered=int(chosen.num_units >= least),
        able=np.array(able, np.int64),
    )


def _unit_scores(
    attack: PooledAttack, side: SideUnits, model: PipelineDenoiser, *, seed: int
) -> Scores:
    """One score a unit: the mean over its images, each asked for under its own class."""
    seeds = SeedTree(seed).child("audit", "pooled")
    has_classes = model.num_classes is not None and side.images.labels is not None
    records = Records(
        images=to_unit_range(side.images.images),
        labels=side.images.labels if has_classes else None,
    )
    of_images = score_by_class(
        records,
        lambda part, label: attack.score(part, model if label < 0 else model.asking(label), seeds),
    )
    totals = np.bincount(side.unit, weights=of_images, minlength=side.num_units)
    return totals / np.bincount(side.unit, minlength=side.num_units)


def _blind(chosen: Selection, seeds: SeedTree) -> tuple[Scores, Scores] | None:
    """One score in [0, 1] a unit, without the model: how much it looks like this site's members."""
    sides = (chosen.members, chosen.others)
    x: Images = np.concatenate([to_unit_range(side.images.images) for side in sides])
    first = chosen.num_units
    unit = np.concatenate([chosen.members.unit, chosen.others.unit + first])
    found = blind_baseline(
        x,
        membership=unit < first,
        rng=seeds.child("blind").numpy(),
        groups=None if len(unit) == 2 * first else unit,
    )
    if found.scores is None:
        return None
    means = np.bincount(unit, weights=found.scores) / np.bincount(unit)
    return means[:first], means[first:]

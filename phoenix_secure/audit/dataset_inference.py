"""Dataset inference: was this set of images trained on, as a whole?

Weak evidence on each image adds up over a set. The question is a data owner's ("was my data used?")
and a site's ("can the model's holder tell that we took part?").
Source:     Dubiński et al. (2025), CDI, arXiv:2411.12858 (``attacks.federated.dataset_inference``).
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from attacks.federated.dataset_inference import DatasetInference, infer, record_features
from phoenix_secure.audit.attack import on_grid, timestep_at
from phoenix_secure.audit.classes import matched_by_class
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.questions import ITS_CLASS, questions_of, score_by_class
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.report_games import DatasetInferenceReport, SuspectReport
from phoenix_secure.audit.roles import Roles
from phoenix_secure.rng import SeedTree

__all__ = ["infer_use"]

_MAX_RECORDS = 1000  # a side; the published evidence needs about 70
_NUM_SPLITS = 100
_PIXEL_COMPONENTS = 20
_INTERVALS = 4
_ALL = "all members"


def infer_use(
    *,
    model: PipelineDenoiser,
    roles: Roles,
    sites: NDArray[np.str_] | None,
    profile: Profile,
    scale: PixelScale,
    seeds: SeedTree,
) -> DatasetInferenceReport:
    """Test whether the evaluated members were used, together and, with ``sites``, site by site.

    A site is compared with unseen images of its own classes, so that only labelled ones are tested.

    sites       (members of the evaluation group,) the site of each; None for all together alone
    Guarantee:  where members and non-members are exchangeable, each p-value is at most 0.05 with
                a chance of 5 %. The placebo plays non-members against other non-members, and the
                blind test sees pixels and not the model.
    """
    started = time.perf_counter()
    inside = np.flatnonzero(roles.evaluation.membership)[:_MAX_RECORDS]
    outside = np.flatnonzero(~roles.evaluation.membership)[:_MAX_RECORDS]
    x = roles.evaluation.records.take(np.concatenate([inside, outside]))
    before = model.num_queries
    features = _features(model, x, profile=profile, scale=scale, seeds=seeds)
    queries = (model.num_queries - before) / len(x.images)
    of_members, unseen = features[: len(inside)], features[len(inside) :]

    def tested(suspect: NDArray[np.float64], rest: NDArray[np.float64]) -> DatasetInference:
        rng = seeds.child("dataset-inference", "splits").numpy()
        return infer(suspect, unseen=rest, rng=rng, num_splits=_NUM_SPLITS)

    half = len(unseen) // 2
    pixels = _pixel_features(x.images)
    of_pixels, unseen_pixels = pixels[: len(inside)], pixels[len(inside) :]

    def row(name: str, own: NDArray[np.int64], rest: NDArray[np.int64]) -> SuspectReport:
        found = tested(of_members[own], unseen[rest])
        return SuspectReport(
            suspect=name,
            num_suspect=found.num_suspect,
            num_unseen=found.num_unseen,
            p_value=found.p_value,
            blind_p=tested(of_pixels[own], unseen_pixels[rest]).p_value,
            reason=found.reason,
        )

    rows = [row(_ALL, np.arange(len(inside)), np.arange(len(outside)))]
    if sites is not None and x.labels is not None:
        of_site, rng = sites[: len(inside)], seeds.child("dataset-inference", "sites").numpy()
        for name in np.unique(of_site):
            own = np.flatnonzero(of_site == name)
            matched = matched_by_class(
                x.labels[: len(inside)], own, x.labels[len(inside) :], rng=rng
            )
            rows.append(row(f"site {name}", *matched))
    return DatasetInferenceReport(
        suspects=tuple(rows),
        placebo_p=tested(unseen[:half], unseen[half:]).p_value,
        queries_per_record=queries,
        seconds=time.perf_counter() - started,
    )


def _features(
    model: PipelineDenoiser, x: Records, *, profile: Profile, scale: PixelScale, seeds: SeedTree
) -> NDArray[np.float64]:
    """Six scores per noise level; a class-conditional model is asked for each image's class."""
    bar = model.alpha_bar
    levels = sorted({max(1, timestep_at(bar, level=level)) for level in profile.noise_levels})
    grid = sorted({on_grid(t, parts=_INTERVALS, limit=len(bar)) for t in levels})
    with_classes = ITS_CLASS in questions_of(model, labels=x.labels)
    shown = Records(images=scale.of(x.images), labels=x.labels if with_classes else None)

    def of_class(part: Records, label: int) -> NDArray[np.float64]:
        columns = [
            record_features(
                part.images,
                eps=model if label < 0 else model.asking(label),
                alpha_bar=bar,
                timesteps=[t],
                interval=interval,
                rng=seeds.child("dataset-inference", "noise", t).numpy(),
                num_noises=profile.num_noises,
            )
            for t, interval in grid
        ]
        return np.concatenate(columns, axis=1)

    return score_by_class(shown, of_class)


def _pixel_features(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, F) principal components of the pixels: what can be told without the model."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ directions[:_PIXEL_COMPONENTS].T, dtype=np.float64)

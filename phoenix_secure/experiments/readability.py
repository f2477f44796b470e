"""Readability: the share of samples that a classifier of real images is sure of.

The judge is trained on the published training images of a data set; its weights stay in the cache.
It has to be good itself: its accuracy on the published test images is measured, and a judge below
``min_accuracy`` is refused. Read the share beside that of real images: no judge is sure of all of
those.

Nothing is chosen with its help. It sees samples after everything about them is decided.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from phoenix_secure.data.images import to_unit_range
from phoenix_secure.data.sources import load_images, load_test_images
from phoenix_secure.errors import CheckpointError, DataError
from phoenix_secure.files import write_bytes
from phoenix_secure.metrics.checked import Images
from phoenix_secure.metrics.classifier import Classifier, load_classifier, train_classifier

__all__ = ["SURE", "Judge", "Readability", "load_judge", "readability"]

SURE = 0.9
_IMAGES, _EPOCHS, _BATCH = 20_000, 2, 64  # 99 % on MNIST's test images, within a minute of CPU time


@dataclass(frozen=True, kw_only=True, slots=True)
class Readability:
    """``share`` of images that look ``SURE`` to be of some class, and how many of each class."""

    share: float
    histogram: tuple[int, ...]
    num_images: int

    @property
    def missing(self) -> tuple[int, ...]:
        """Classes that no image was taken for."""
        return tuple(k for k, count in enumerate(self.histogram) if count == 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """A classifier of real images, its accuracy on real test images, and what it says of those."""

    classifier: Classifier
    accuracy: float
    real: Readability


def readability(images: Images, classifier: Classifier) -> Readability:
    """Judge images (N, C, H, H) in [-1, 1].

    A share, because a mean confidence hides unreadable images behind a few sure ones.
    """
    return _summary(classifier.probabilities(images))


def load_judge(
    name: str, *, cache_dir: Path, device: torch.device, min_accuracy: float = 0.98
) -> Judge:
    """The judge of the published data set ``name``, from the cache or trained now.

    Raises:     DataError where the set is not fetched, or the judge is worse than ``min_accuracy``.
    """
    weights = cache_dir / f"judge-{name}.safetensors"
    facts = weights.with_suffix(".json")
    try:
        known = json.loads(facts.read_text(encoding="utf-8"))
        real = Readability(
            share=known["share"], histogram=tuple(known["histogram"]), num_images=known["images"]
        )
        return Judge(
            classifier=load_classifier(weights, device=device),
            accuracy=known["accuracy"],
            real=real,
        )
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        pass  # not there, or damaged: trained again
    judge = _train(name, cache_dir=cache_dir, device=device)
    if judge.accuracy < min_accuracy:
        raise DataError(
            f"the judge of {name} reads {judge.accuracy:.1%} of the real test images, and "
            f"{min_accuracy:.0%} are needed"
        )
    judge.classifier.save(weights)
    about: dict[str, Any] = {
        "accuracy": judge.accuracy,
        "share": judge.real.share,
        "histogram": judge.real.histogram,
        "images": judge.real.num_images,
    }
    write_bytes(facts, (json.dumps(about, sort_keys=True) + "\n").encode())
    return judge


def _train(name: str, *, cache_dir: Path, device: torch.device) -> Judge:
    train = load_images(name, cache_dir=cache_dir, max_images=_IMAGES)
    test = load_test_images(name, cache_dir=cache_dir)
    if train.labels is None or test.labels is None:
        raise DataError(f"{name} has no labels: a judge needs classes")
    classifier = train_classifier(
        to_unit_range(train.images),
        labels=train.labels,
        num_classes=train.num_classes,
        dataset=name,
        generator=torch.Generator().manual_seed(0),
        device=device,
        epochs=_EPOCHS,
        batch_size=_BATCH,
    )
    probabilities = classifier.probabilities(to_unit_range(test.images))
    accuracy = float((probabilities.argmax(axis=1) == test.labels).mean())
    return Judge(classifier=classifier, accuracy=accuracy, real=_summary(probabilities))


def _summary(probabilities: npt.NDArray[np.float64]) -> Readability:
    histogram = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return Readability(
        share=float((probabilities.max(axis=1) >= SURE).mean()),
        histogram=tuple(int(count) for count in histogram),
        num_images=len(probabilities),
    )

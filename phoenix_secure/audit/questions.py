"""What a model is asked about an image: on which pixel scale, and with which class.

A class-conditional model that was trained on an image knows it best under the image's own class.
Asked without a class it may show less, or nothing where it never trained on that question. Both
questions are settings of every attack, so that the tuning split chooses the stronger one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from attacks.records import Scores
from phoenix_secure.audit.attack import AskedModel, Attack
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.records import Labels, Records
from phoenix_secure.errors import DataError

__all__ = [
    "ITS_CLASS",
    "NO_CLASS",
    "PixelScale",
    "ask_every_way",
    "find_scale",
    "questions_of",
    "require_classes",
    "score_by_class",
]

NO_CLASS, ITS_CLASS = "no class", "its class"
_NUM_IMAGES = 64
_LEVELS = (0.9, 0.5)  # of alpha_bar, at which the pixel scale shows


class PixelScale(StrEnum):
    """The range that black and white had in training."""

    SIGNED = "[-1, 1]"
    UNIT = "[0, 1]"

    def of(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """``x`` in [-1, 1], on this scale."""
        return x if self is PixelScale.SIGNED else (x + np.float32(1)) / np.float32(2)

    def undo(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """``x`` on this scale, in [-1, 1]."""
        return x if self is PixelScale.SIGNED else x * np.float32(2) - np.float32(1)


def questions_of(model: PipelineDenoiser, *, labels: Labels | None) -> tuple[str, ...]:
    """The questions that can be asked; none for a model without classes.

    The class comes first: where few images leave a tie, it is the stronger question.
    """
    if model.num_classes is None:
        return ()
    null = () if model.null_label is None else (NO_CLASS,)
    return null if labels is None else (ITS_CLASS, *null)


def require_classes(model: PipelineDenoiser, images: AuditImages) -> None:
    """Refuse labels that are no classes of ``model``, and none where it cannot do without.

    Raises:     DataError on one line.
    """
    if model.num_classes is None:
        return
    sets = {
        "members": images.members,
        "non-members": images.non_members,
        "reference images": images.reference,
    }
    for name, image_set in sets.items():
        if image_set is None:
            continue
        if image_set.labels is None:
            if model.null_label is None:
                raise DataError(
                    f"the model is class-conditional without a null class, and the {name} have no "
                    "labels: give each image's class (labels in the .npz, or one folder a class)"
                )
            continue
        highest = int(image_set.labels.max(initial=-1))
        if highest >= model.num_classes:
            raise DataError(
                f"the {name} hold class {highest}, and the model knows {model.num_classes} classes "
                "from 0 on: give the labels that it was trained with"
            )
        shared = list(zip(images.members.class_names, image_set.class_names, strict=False))
        if any(first != second for first, second in shared):
            raise DataError(
                f"the {name} number their classes differently from the members "
                f"({image_set.class_names[:3]} ...): give the same class folders to both"
            )


def ask_every_way(
    make: Callable[[AskedModel], Sequence[Attack]],
    model: PipelineDenoiser,
    *,
    labels: Labels | None,
    scale: PixelScale,
) -> tuple[Attack, ...]:
    """The attacks that ``make`` builds on a denoiser, with every question among their settings.

    Guarantee:  a record's score under its class is what the attack gives on the records of that
                class alone, in their order.
    """
    questions = questions_of(model, labels=labels)
    views: dict[int, Sequence[Attack]] = {-1: make(model)}
    if ITS_CLASS in questions and labels is not None:
        views |= {int(c): make(model.asking(int(c))) for c in np.unique(labels[labels >= 0])}
    return tuple(
        _asked({c: made[k] for c, made in views.items()}, questions=questions, scale=scale)
        for k in range(len(views[-1]))
    )


def score_by_class(
    records: Records, score: Callable[[Records, int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """``score(part, class)`` of each class's records, put back into their order."""
    if records.labels is None:
        return score(records, -1)
    found: NDArray[np.float64] | None = None
    for c in np.unique(records.labels):
        rows = np.flatnonzero(records.labels == c)
        part = score(records.take(rows), int(c))
        if found is None:
            found = np.empty((len(records.images), *part.shape[1:]))
        found[rows] = part
    if found is None:
        raise ValueError("expected at least one record")
    return found


def _asked(views: Mapping[int, Attack], *, questions: Sequence[str], scale: PixelScale) -> Attack:
    base = views[-1]
    pixels = "" if scale is PixelScale.SIGNED else f", pixels in {scale}"
    # A model without classes, or one that can be asked in one way alone, keeps the plain names.
    ways = {"": None} if questions in ((), (NO_CLASS,)) else {f", {q}": q for q in questions}

    def split(setting: str) -> tuple[str, str | None]:
        bare = setting.removesuffix(pixels)
        way = next(way for way in ways if bare.endswith(way))
        return bare.removesuffix(way), ways[way]

    def on_scale(x: Records) -> Records:
        return Records(images=scale.of(x.images), labels=x.labels)

    def score(x: Records, setting: str) -> Scores:
        name, question = split(setting)
        if question != ITS_CLASS:
            return base.score(on_scale(x), name)
        return score_by_class(on_scale(x), lambda part, c: views[c].score(part, name))

    def score_all(x: Records) -> dict[str, Scores]:
        found: dict[str, Scores] = {}
        for way, question in ways.items():
            if question != ITS_CLASS:
                found |= {name + way + pixels: s for name, s in base.scores(on_scale(x)).items()}
                continue
            columns = score_by_class(
                on_scale(x),
                lambda part, c: np.stack(
                    [views[c].scores(part)[name] for name in base.settings], axis=1
                ),
            )
            names = (name + way + pixels for name in base.settings)
            found |= dict(zip(names, columns.T, strict=True))
        return found

    return Attack(
        name=base.name,
        access=base.access,
        settings=tuple(name + way + pixels for way in ways for name in base.settings),
        score=score,
        score_all=score_all,
    )


def find_scale(
    model: PipelineDenoiser, records: Records, *, rng: np.random.Generator
) -> PixelScale:
    """The pixel scale that ``model`` was trained on, by how well it removes noise on each.

    The squared error of the predicted image counts in units of the images' own variance, which a
    narrower scale would otherwise make small by itself: a network that removes nothing is four
    times worse on [0, 1], and so stays on [-1, 1], as diffusers' pipelines have it.

    Cost:       at most 256 queries.
    """
    some = records.take(np.arange(min(_NUM_IMAGES, len(records.images))))
    labels = None if ITS_CLASS not in questions_of(model, labels=some.labels) else some.labels
    noise = rng.standard_normal(some.images.shape)

    def error(scale: PixelScale, t: int) -> float:
        a, x = model.alpha_bar[t], scale.of(some.images).astype(np.float64)
        z = np.sqrt(a) * x + np.sqrt(1 - a) * noise
        eps = model.noise(z.astype(np.float32), np.full(len(z), t, np.int64), labels=labels)
        predicted = (z - np.sqrt(1 - a) * eps.astype(np.float64)) / np.sqrt(a)
        return float(((predicted - x) ** 2).mean() / max(x.var(), 1e-12))

    steps = {int(np.argmin(np.abs(model.alpha_bar - level))) for level in _LEVELS}
    ratios = [error(PixelScale.UNIT, t) / error(PixelScale.SIGNED, t) for t in sorted(steps)]
    return PixelScale.UNIT if np.mean(np.log(ratios)) < 0 else PixelScale.SIGNED

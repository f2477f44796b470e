"""What a model is asked about an image: with which class, and on which pixel scale.

A class-conditional model that was trained on an image knows it best under the image's own class.
Asked without a class it may show less, or nothing where it never trained on that question. Both
questions are settings of every attack, so that the tuning split chooses the stronger one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attacks.records import Scores
from phoenix_secure.audit.attack import AskedModel, Attack
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.records import Labels, Records

__all__ = [
    "ITS_CLASS",
    "NO_CLASS",
    "ask_every_way",
    "questions_of",
    "score_by_class",
]

NO_CLASS, ITS_CLASS = "no class", "its class"


def questions_of(model: PipelineDenoiser, *, labels: Labels | None) -> tuple[str, ...]:
    """The questions that can be asked; none for a model without classes.

    The class comes first: where few images leave a tie, it is the stronger question.
    """
    if model.num_classes is None:
        return ()
    null = () if model.null_label is None else (NO_CLASS,)
    return null if labels is None else (ITS_CLASS, *null)


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

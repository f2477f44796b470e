"""How an audit's target is read, and what the report says about it."""

from __future__ import annotations

from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.questions import ITS_CLASS, questions_of
from phoenix_secure.audit.reading import Reading, read_model
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.target import Target
from phoenix_secure.rng import SeedTree

__all__ = ["reading_facts", "reading_of"]

_NO_LABELS = (
    "the model is class-conditional, and not all images have labels: it was asked without a class "
    "alone, and shows less than under each image's own; give labels for every set"
)


def reading_of(target: Target, *, roles: Roles, seeds: SeedTree) -> Reading:
    """How the target's model is read: measured for one that others trained, known for a run's."""
    model = target.model
    if model is None:
        return Reading()
    if model.num_classes is not None and roles.labels is None:
        # It has a null class, or labels would have been asked for (``classes``).
        return _with_doubt(_NO_LABELS, of=_measured(target, model, roles=roles, seeds=seeds))
    return _measured(target, model, roles=roles, seeds=seeds)


def _with_doubt(doubt: str, *, of: Reading) -> Reading:
    return Reading(scale=of.scale, doubts=(doubt, *of.doubts))


def _measured(target: Target, model: PipelineDenoiser, *, roles: Roles, seeds: SeedTree) -> Reading:
    if target.run is not None:
        return Reading()
    questions = questions_of(model, labels=roles.choice.records.labels)
    return read_model(
        model,
        roles.choice.records,
        with_classes=ITS_CLASS in questions,
        rng=seeds.child("scale").numpy(),
    )


def reading_facts(target: Target, reading: Reading) -> dict[str, str]:
    """Of a model that others trained: what it was taken for."""
    model = target.model
    if model is None or target.run is not None:
        return {}
    facts = {
        "process": str(model.process),
        "pixel scale": f"{reading.scale}, by how well the model denoises the tuning split on it",
    }
    if model.null_label is not None:
        facts["null class"] = f"{model.null_label}, of {model.num_classes}"
    return facts

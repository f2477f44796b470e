"""The attack on a sequence of models: a member's loss falls more from round to round than others'.

Whoever receives every round's model (the server, and each site) holds more than the last one: in
the first rounds the losses differ by how hard an image is, and the fall since then takes that out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from attacks import denoising_loss
from attacks.records import Scores
from phoenix_secure.audit.attack import Access, Attack, timestep_at
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.questions import score_by_class
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.target import Target
from phoenix_secure.config import RunConfig
from phoenix_secure.diffusion.sampling import build_pipeline
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.parameters import load_vector

__all__ = ["attack_on_losses", "checkpoint_attack", "checkpoint_obstacle"]

_NAME = "checkpoints"


def checkpoint_obstacle(target: Target) -> str | None:
    """The reason why there is no sequence of models, or None."""
    if target.run is None or target.config is None or target.model is None:
        return "needs a run folder with its checkpoints"
    try:
        states = target.run.load_states(config=target.config)
    except CheckpointError as error:
        return f"needs the run's checkpoints ({error})"
    if len({state.round_number for state in states}) < 2:
        return "needs two kept checkpoints (output.keep_checkpoints)"
    return None


def checkpoint_attack(target: Target, *, profile: Profile, seeds: SeedTree) -> Attack:
    """Losses at every kept checkpoint; chosen on the tuning split: their mean, or their fall from
    the first to the last, at one noise level.

    Raises:     ValueError where ``checkpoint_obstacle`` has a reason.
    """
    if target.run is None or target.config is None or target.model is None:
        raise ValueError("expected a run with checkpoints")
    models = _Sequence(
        target.run.load_states(config=target.config),
        target.config,
        target=target.model,
        num_classes=target.images.members.num_classes,
        image_size=target.images.members.image_size,
        channels=target.images.members.channels,
    )
    bar = target.model.alpha_bar
    steps = sorted({max(1, timestep_at(bar, level=level)) for level in profile.noise_levels})

    def losses(x: Records, t: int) -> NDArray[np.float64]:
        return models.losses(
            x,
            t=t,
            num_noises=profile.num_noises,
            seeds=seeds.child("attack", _NAME, t),
        )

    return attack_on_losses(losses, steps=steps)


def attack_on_losses(
    losses: Callable[[Records, int], NDArray[np.float64]], *, steps: Sequence[int]
) -> Attack:
    """The attack on ``losses(records, t)``, of shape (N, checkpoints), oldest first."""
    by_name = {f"{way}, t={t}": (way, t) for way in ("mean", "fall") for t in steps}

    def scored(of: NDArray[np.float64], way: str) -> Scores:
        found = -of.mean(axis=1) if way == "mean" else of[:, 0] - of[:, -1]
        return np.asarray(found, dtype=np.float64)

    def score(x: Records, setting: str) -> Scores:
        way, t = by_name[setting]
        return scored(losses(x, t), way)

    def score_all(x: Records) -> dict[str, Scores]:
        each = {t: losses(x, t) for t in steps}
        return {name: scored(each[t], way) for name, (way, t) in by_name.items()}

    return Attack(
        name=_NAME,
        access=Access.CHECKPOINTS,
        settings=tuple(by_name),
        score=score,
        score_all=score_all,
    )


class _Sequence:
    """A run's kept models, oldest first, in one network that takes their weights in turn."""

    def __init__(
        self,
        states: Sequence[ServerState],
        config: RunConfig,
        *,
        target: PipelineDenoiser,
        num_classes: int,
        image_size: int,
        channels: int,
    ) -> None:
        self._vectors = [state.parameters for state in states]
        self._target = target
        self._network = build_unet(
            config.model,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            seeds=SeedTree(0),
        )
        pipeline = build_pipeline(self._network, config)
        self._denoiser = PipelineDenoiser(pipeline, device=target.device)

    def losses(
        self, x: Records, *, t: int, num_noises: int, seeds: SeedTree
    ) -> NDArray[np.float64]:
        """(N, models), each image asked for its own class where the network takes one."""
        known = x if self._denoiser.num_classes is not None else Records(images=x.images)

        def of_class(part: Records, label: int) -> NDArray[np.float64]:
            return denoising_loss.losses(
                part.images,
                eps=self._denoiser if label < 0 else self._denoiser.asking(label),
                alpha_bar=self._denoiser.alpha_bar,
                timesteps=[t],
                num_noises=num_noises,
                rng=seeds.numpy(),
            )

        columns = []
        for vector in self._vectors:
            load_vector(self._network, vector)
            columns.append(score_by_class(known, of_class)[:, 0])
        # The audit counts the queries of all models together.
        self._target.num_queries += self._denoiser.num_queries
        self._denoiser.num_queries = 0
        return np.stack(columns, axis=1)

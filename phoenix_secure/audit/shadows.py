"""Shadow models: the target's own training, repeated with half of the evaluated images each.

Everything but the evaluated images stays as it was: settings, sites, rounds, the moving average,
and the other members, which this attacker knows (as the adversary of differential privacy does).
Each shadow has as many members as the target, so that it overfits alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.shadows import complementary_pairs
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.plan import AuditPlan
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.target import Target
from phoenix_secure.config import RunConfig
from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.device import num_cores
from phoenix_secure.diffusion.sampling import build_pipeline
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.federation.round.aggregate import Aggregate, Stages
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from phoenix_secure.federation.server.optimizer import mean_update
from phoenix_secure.federation.server.rounds import FinishedRound, run_rounds
from phoenix_secure.rng import SeedTree
from phoenix_secure.training.gradients import plain_trainer
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.parameters import load_vector, to_vector
from phoenix_secure.workers import map_batches, workers

__all__ = ["Shadow", "shadow_obstacle", "train_shadows"]

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadow:
    """A model, and which images of the evaluation group it was trained on."""

    model: PipelineDenoiser
    inclusion: NDArray[np.bool_]


def shadow_obstacle(target: Target, *, roles: Roles) -> str | None:
    """The reason why no shadow can be trained as the target was, or None."""
    if target.config is None or target.images.member_sites is None:
        return "needs a run folder with its settings and its own split"
    config = target.config
    if config.privacy.unit != "none" or config.sharing.source != "none":
        return "needs a run of plain local steps (no privacy, no shared images)"
    if len(roles.evaluation.images) % 2:
        return "needs an even number of images"
    return None


def train_shadows(
    target: Target,
    *,
    roles: Roles,
    plan: AuditPlan,
    folder: Path,
    seeds: SeedTree,
    device: torch.device,
    progress: Progress,
) -> tuple[Shadow, ...]:
    """Train the plan's shadows; every round is kept in ``folder``, and a killed audit goes on.

    Raises:     CheckpointError for a damaged checkpoint or one of another plan.
    """
    config = target.config
    if config is None:
        raise ValueError("expected a run")
    rng = seeds.child("shadow-inclusion").numpy()
    num_images = len(roles.evaluation.images)
    inclusion = complementary_pairs(num_images, num_pairs=plan.num_shadows // 2, rng=rng)
    recipe = _Recipe(config=config, num_classes=target.images.members.num_classes, device=device)
    assigned = _assigned_sites(target, roles, rng=seeds.child("shadow-sites").numpy())
    shadows = []
    for number, rows in enumerate(inclusion):
        sites = _sites(target, roles, included=rows, assigned=assigned)
        vector = _train(
            recipe,
            sites,
            folder=folder / f"shadow-{number:03d}",
            plan_hash=plan.sha256,
            seeds=seeds.child("shadow", number),
            progress=lambda done, total, k=number: progress(  # type: ignore[misc]
                f"shadow {k + 1} of {len(inclusion)}", done, total
            ),
        )
        unet = _network(recipe, sites, seeds=seeds)
        load_vector(unet, vector)
        model = PipelineDenoiser(build_pipeline(unet, config), device=device)
        shadows.append(Shadow(model=model, inclusion=rows))
    return tuple(shadows)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    """What all shadows of an audit are trained by."""

    config: RunConfig
    num_classes: int
    device: torch.device


class _LocalAggregator:
    """The sites' updates and their mean, in this process: what a round of the target amounts to."""

    def __init__(self, recipe: _Recipe, sites: dict[str, SiteImages], *, seeds: SeedTree) -> None:
        self._trainer = plain_trainer(
            recipe.config, num_classes=recipe.num_classes, device=recipe.device
        )
        self._sites = sites
        self._seeds = seeds
        self._device = recipe.device

    def members(self) -> tuple[str, ...]:
        """All sites."""
        return tuple(sorted(self._sites))

    def aggregate(self, request: TrainRequest, *, cohort: tuple[str, ...]) -> Stages[Aggregate]:
        """Train the cohort, on the workers around this call if there are any."""
        yield from ()
        number = request.round_number

        def train(name: str) -> LocalUpdate:
            return self._trainer.train(
                request.parameters,
                self._sites[name],
                round_number=number,
                seeds=self._seeds.child("site", name, "round", number),
            )

        found = map_batches(train, cohort, device=self._device)
        updates = dict(zip(cohort, found, strict=True))
        weights = [float(update.num_images) for update in updates.values()]
        return Aggregate(
            update=mean_update([update.delta for update in updates.values()], weights),
            loss=float(np.average([u.loss for u in updates.values()], weights=weights)),
            sites=tuple(updates),
            failures={},
            num_images=int(sum(weights)),
            num_steps=sum(update.num_steps for update in updates.values()),
            bytes_down=0,
            bytes_up=0,
        )


def _train(
    recipe: _Recipe,
    sites: dict[str, SiteImages],
    *,
    folder: Path,
    plan_hash: str,
    seeds: SeedTree,
    progress: Callable[[int, int], object],
) -> np.ndarray:
    config = recipe.config
    threads = config.federation.threads_per_site
    torch.set_num_threads(threads)
    kept = list_checkpoints(folder)
    if kept:
        state = load_checkpoint(kept[-1][1], settings_hash=plan_hash)
    else:
        unet = _network(recipe, sites, seeds=seeds)
        state = ServerState.initial(to_vector(unet), federation=config.federation)
    aggregator = _LocalAggregator(recipe, sites, seeds=seeds)
    # Workers have one thread; sites that were trained on more must be again, one after another.
    with workers(num_cores()) if threads == 1 else contextlib.nullcontext():
        for event in run_rounds(state, config=config, aggregator=aggregator, seeds=seeds):
            if isinstance(event, FinishedRound):
                state = event.state
                save_checkpoint(state, folder, settings_hash=plan_hash, keep=1)
                progress(event.report.round_number, config.federation.rounds)
    return state.ema if config.ema.decay > 0 else state.parameters


def _network(recipe: _Recipe, sites: dict[str, SiteImages], *, seeds: SeedTree) -> torch.nn.Module:
    shape = next(iter(sites.values())).images.shape
    network: torch.nn.Module = build_unet(
        recipe.config.model,
        image_size=shape[-1],
        channels=shape[1],
        num_classes=recipe.num_classes,
        seeds=seeds,
    )
    return network


def _assigned_sites(target: Target, roles: Roles, *, rng: np.random.Generator) -> Sequence[str]:
    """The site of each evaluated image: a member's own; a non-member's is that of a random member
    of its class, so that the sites' mixtures stay as they were."""
    owners, images = target.images.member_sites, target.images
    if owners is None:
        raise ValueError("expected a run with sites")
    found = [str(name) for name in owners[roles.members]]
    classes, others = images.members.labels, images.non_members.labels
    for index in roles.non_members:
        alike = np.arange(len(owners))
        if classes is not None and others is not None:
            same = np.flatnonzero(classes == others[index])
            alike = same if len(same) else alike
        found.append(str(owners[rng.choice(alike)]))
    return found


def _sites(
    target: Target, roles: Roles, *, included: NDArray[np.bool_], assigned: Sequence[str]
) -> dict[str, SiteImages]:
    """Each site's images in one shadow: its unevaluated members, and its included ones."""
    images, owners = target.images, target.images.member_sites
    if owners is None:
        raise ValueError("expected a run with sites")
    background = np.setdiff1d(np.arange(images.members.num_images), roles.members)
    pool = np.concatenate(
        [images.members.images[roles.members], images.non_members.images[roles.non_members]]
    )
    labels = None
    if images.members.labels is not None and images.non_members.labels is not None:
        labels = np.concatenate(
            [images.members.labels[roles.members], images.non_members.labels[roles.non_members]]
        )
    groups = None
    if images.members.groups is not None and images.non_members.groups is not None:
        groups = np.concatenate(
            [images.members.groups[roles.members], images.non_members.groups[roles.non_members]]
        )
    sites = {}
    for name in np.unique(owners):
        own = background[owners[background] == name]
        extra = np.flatnonzero(included & (np.asarray(assigned) == name))
        if len(own) + len(extra) == 0:
            continue
        of_site = np.concatenate([images.members.images[own], pool[extra]])
        of_labels = of_groups = None
        if groups is not None and images.members.groups is not None:
            of_groups = np.concatenate([images.members.groups[own], groups[extra]])
        if labels is not None and images.members.labels is not None:
            of_labels = np.concatenate([images.members.labels[own], labels[extra]])
        sites[str(name)] = SiteImages(images=of_site, labels=of_labels, groups=of_groups)
    return sites

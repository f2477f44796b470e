"""Reconstructions from gradients and updates: what a server could see of a site's images.

Two views, each with and without secure aggregation: the gradient of one step on one image, its
timestep and noise known to the attacker (the worst case of showing a gradient), and the sum of such
gradients of several sites; a site's update of a real round, and the sum of all sites' updates.
Source:     ``attacks.federated.inversion`` (Zhu et al. 2019; Geiping et al. 2020).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.federated.inversion import Inversion, Matching, invert
from attacks.federated.matches import match
from phoenix_secure.audit.federated_view import require_federated, retrained_updates
from phoenix_secure.audit.inversion_scene import Pairs, Scene
from phoenix_secure.audit.report_games import InversionReport, InversionRow
from phoenix_secure.audit.round_loss import RoundLoss
from phoenix_secure.audit.target import Target
from phoenix_secure.data.partition import partition_images
from phoenix_secure.device import pick_devices
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.rng import SeedTree

__all__ = ["inversion_obstacle", "invert_gradients"]

_NUM_SITES = 5  # sites whose update is inverted
_NUM_DRAWS = 4  # timesteps and noises that the attacker averages over for an update
Progress = Callable[[str, int, int], object]


def inversion_obstacle(target: Target) -> str | None:
    """The reason why no round can be inverted, or None."""
    try:
        require_federated(target)
    except (ConfigError, CheckpointError) as error:
        return f"needs a run of plain local steps with a kept round of all sites ({error})"
    return None


def invert_gradients(
    target: Target,
    *,
    cache_dir: Path,
    seeds: SeedTree,
    num_images: int,
    num_iterations: int,
    progress: Progress = lambda what, k, n: None,
) -> InversionReport:
    """Invert single steps, the sites' updates of a kept round, and their sum.

    Each candidate member has an unseen partner of its class; reconstructions are compared with both
    (``attacks.federated.matches``).

    num_images      single steps to invert
    Raises:     ConfigError or CheckpointError as ``require_federated``.
    """
    started = time.perf_counter()
    run, config, states = require_federated(target)
    partition = partition_images(config, seeds=SeedTree(config.seed), cache_dir=cache_dir)
    run.check_split(partition.split, image_set=partition.image_set)
    device = pick_devices(config.device)[0]
    state = states[0]  # the earliest kept: the fewer rounds, the larger the gradients
    scene = Scene(state=state, config=config, partition=partition, device=device, seeds=seeds)
    pairs = scene.pairs()
    rows = [
        _single_steps(scene, pairs, num_images, num_iterations, progress),
        _summed_steps(scene, pairs, num_iterations, progress),
    ]
    updates = retrained_updates(state, config=config, partition=partition, device=device)
    names = sorted(updates)
    shown = [(name, updates[name]) for name in names[:_NUM_SITES]]
    rows.append(
        _of_updates(
            "each site's update of a round",
            scene,
            pairs,
            shown=[(update, pairs.of_site(name)) for name, update in shown],
            num_iterations=num_iterations,
            progress=progress,
        )
    )
    total = np.sum([updates[name].astype(np.float64) for name in names], axis=0)
    rows.append(
        _of_updates(
            "the sum of a round (secure aggregation)",
            scene,
            pairs,
            shown=[(total, np.ones(len(pairs.members), dtype=np.bool_))],
            num_iterations=num_iterations,
            progress=progress,
        )
    )
    return InversionReport(
        round_number=state.round_number + 1,
        secure_aggregation=config.secure_aggregation.mode,
        rows=tuple(rows),
        seconds=time.perf_counter() - started,
    )


def _single_steps(
    scene: Scene, pairs: Pairs, num_images: int, num_iterations: int, progress: Progress
) -> InversionRow:
    """One step on one image each: the attacker knows model, timestep, noise and class."""
    started = time.perf_counter()
    rng = scene.seeds.child("inversion", "steps").numpy()
    chosen = np.sort(rng.permutation(len(pairs.members))[:num_images])
    made = []
    for number, k in enumerate(chosen):
        progress("inverting single steps", number, len(chosen))
        loss, label = scene.loss(name=number, num_draws=1), int(pairs.labels[k])
        observed = loss.gradient(pairs.members[k], label=label)
        made.append(_invert(loss, observed, label, pairs, rng, Matching.L2, num_iterations))
    own = np.zeros((len(chosen), len(pairs.members)), dtype=np.bool_)
    own[np.arange(len(chosen)), chosen] = True
    images = np.stack([one.reconstruction for one in made])
    return _row("one step on one image, noise known", images, made, pairs, own, scene, started)


def _summed_steps(
    scene: Scene, pairs: Pairs, num_iterations: int, progress: Progress
) -> InversionRow:
    """One step at several sites on one image each; the attacker sees the gradients' sum, knows
    every timestep, noise and class, and looks for all images at once."""
    started = time.perf_counter()
    rng = scene.seeds.child("inversion", "summed steps").numpy()
    names = np.unique(pairs.sites)[:_NUM_SITES]
    chosen = np.array([rng.choice(np.flatnonzero(pairs.of_site(name))) for name in names])
    progress("inverting summed steps", 0, 1)
    losses = [scene.loss(name=f"summed {name}", num_draws=1) for name in names]
    labels = pairs.labels[chosen]

    def summed(images: NDArray[np.floating]) -> NDArray[np.floating]:
        each = zip(losses, images, labels, strict=True)
        parts = [loss.gradient(u, label=int(label)) for loss, u, label in each]
        return np.asarray(np.sum(parts, axis=0))

    def pulled_back(
        images: NDArray[np.floating], direction: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        each = zip(losses, images, labels, strict=True)
        return np.stack([loss.pulled_back(u, direction, label=int(y)) for loss, u, y in each])

    found = invert(
        summed(pairs.members[chosen]),
        gradient=summed,
        vjp=pulled_back,
        shape=(len(chosen), *pairs.members.shape[1:]),
        rng=rng,
        num_restarts=1,
        num_iterations=num_iterations,
    )
    candidates = np.zeros((len(chosen), len(pairs.members)), dtype=np.bool_)
    candidates[np.arange(len(chosen)), chosen] = True
    view = f"one step at each of {len(chosen)} sites, summed (secure aggregation), noise known"
    return _row(view, found.reconstruction, [found], pairs, candidates, scene, started)


def _of_updates(
    view: str,
    scene: Scene,
    pairs: Pairs,
    *,
    shown: Sequence[tuple[NDArray[np.floating], NDArray[np.bool_]]],
    num_iterations: int,
    progress: Progress,
) -> InversionRow:
    """One image for each update that is shown, under noise of the attacker's own."""
    started = time.perf_counter()
    rng = scene.seeds.child("inversion", view).numpy()
    loss = scene.loss(name="update", num_draws=_NUM_DRAWS)
    made, candidates = [], []
    for number, (update, allowed) in enumerate(shown):
        progress(f"inverting {view}", number, len(shown))
        if not allowed.any():
            continue
        # The attacker does not know the classes in a round: it asks for the most frequent one.
        label = int(np.bincount(pairs.labels[allowed] + 1).argmax()) - 1
        made.append(_invert(loss, -update, label, pairs, rng, Matching.COSINE, num_iterations))
        candidates.append(allowed)
    images = np.stack([one.reconstruction for one in made])
    return _row(view, images, made, pairs, np.stack(candidates), scene, started)


def _invert(
    loss: RoundLoss,
    observed: NDArray[np.floating],
    label: int,
    pairs: Pairs,
    rng: np.random.Generator,
    matching: Matching,
    num_iterations: int,
) -> Inversion:
    return invert(
        observed,
        gradient=lambda u: loss.gradient(u, label=label),
        vjp=lambda u, v: loss.pulled_back(u, v, label=label),
        shape=pairs.members.shape[1:],
        rng=rng,
        matching=matching,
        num_restarts=1,
        num_iterations=num_iterations,
    )


def _row(
    view: str,
    images: NDArray[np.float64],
    made: Sequence[Inversion],
    pairs: Pairs,
    candidates: NDArray[np.bool_],
    scene: Scene,
    started: float,
) -> InversionRow:
    found = match(
        images,
        members=pairs.members,
        partners=pairs.partners,
        candidates=candidates,
        rng=scene.seeds.child("inversion", "permutations", view).numpy(),
    )
    recovered, recovered_control = found.recovered()
    return InversionRow(
        view=view,
        num_reconstructions=len(images),
        num_candidates=int(candidates.any(axis=0).sum()),
        psnr=float(np.median(found.best)),
        psnr_control=float(np.median(found.best_control)),
        recovered=recovered,
        recovered_control=recovered_control,
        p_value=found.p_value,
        evaluations=sum(one.num_evaluations for one in made),
        seconds=time.perf_counter() - started,
    )

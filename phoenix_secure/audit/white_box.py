"""The attack on gradients: whoever holds the weights asks what the model would still learn.

Source:     Pang et al. (2023), GSA1, arXiv:2308.06405 (``attacks.gsa``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from attacks import gsa
from attacks.denoiser import CommonNoise
from attacks.records import Images
from phoenix_secure.audit.attack import Access, timestep_at
from phoenix_secure.audit.denoiser import PipelineDenoiser
from phoenix_secure.audit.profiles import Profile
from phoenix_secure.audit.questions import score_by_class
from phoenix_secure.audit.records import Records
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.audit.shadows import Shadow
from phoenix_secure.rng import SeedTree

__all__ = ["WHITE_BOX", "GradientNormsOf", "score_gsa"]

WHITE_BOX = ("gsa",)
_MAX_CHUNK = 32  # images whose gradients are held at once
_MAX_GRADIENTS = 40_000_000  # their numbers, 160 MB


class GradientNormsOf:
    """Per image, the norm of each parameter tensor's gradient of the loss at some timesteps.

    The loss is the squared error of the noise that the network's answer implies, whatever it was
    trained to answer. A class-conditional network is asked for ``label``; -1: for its null class.

    Shape:      images (N, C, H, W) -> (N, number of tensors), as ``attacks.gsa`` asks for.
    """

    def __init__(
        self, model: PipelineDenoiser, *, label: int, shape: tuple[int, ...], seeds: SeedTree
    ) -> None:
        self._model, self._label = model, label
        self._noise = CommonNoise(seeds.numpy(), shape=shape)
        self._holder = _Holder(model.network)
        named = dict(self._holder.named_parameters())
        self._parameters = {name: weights.detach() for name, weights in named.items()}
        size = sum(weights.numel() for weights in self._parameters.values())
        self._chunk = int(np.clip(_MAX_GRADIENTS // max(1, size), 1, _MAX_CHUNK))

    def __call__(self, x: Images, timesteps: Sequence[int], /) -> NDArray[np.floating]:
        t, device = np.asarray(timesteps, dtype=np.int64), self._model.device
        a = torch.from_numpy(self._model.alpha_bar[t]).to(device, torch.float32).view(-1, 1, 1, 1)
        drawn = np.stack([self._noise.draw(int(step)) for step in t]).astype(np.float32)
        noise = torch.from_numpy(drawn).to(device)

        def loss(parameters: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
            z = a.sqrt() * image + (1 - a).sqrt() * noise
            # The holder's network is the model's own: the call sees these parameters in it.
            answer = functional_call(
                self._holder,
                parameters,
                (lambda: self._model.noise_tensor(z, t, label=self._label),),
            )
            error: torch.Tensor = (answer - noise).square().mean()
            return error

        gradients = vmap(grad(loss), in_dims=(None, 0))
        rows = []
        with sdpa_kernel(SDPBackend.MATH):  # whose gradients vmap knows
            for start in range(0, len(x), self._chunk):
                images = torch.from_numpy(x[start : start + self._chunk]).to(device)
                found = gradients(self._parameters, images)
                norms = [part.flatten(1).double().norm(dim=1) for part in found.values()]
                rows.append(torch.stack(norms, dim=1).cpu().numpy())
        return np.concatenate(rows)


class _Holder(torch.nn.Module):
    """Holds a network, so that what is called inside sees other parameters in it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inside: Callable[[], torch.Tensor]) -> torch.Tensor:
        return inside()


def score_gsa(
    *,
    model: PipelineDenoiser,
    shadows: Sequence[Shadow],
    roles: Roles,
    profile: Profile,
    seeds: SeedTree,
) -> Scored:
    """Scores on the evaluation group; the classifier is fitted on the shadows alone.

    Its features are the norms at the paper's equidistant timesteps and, beside them, those at the
    profile's noise levels: where most of the former are nearly noise, the latter still tell.

    Cost:       two backward passes over all these timesteps per image and model.
    """
    started = time.perf_counter()
    records = roles.evaluation.records
    bar = model.alpha_bar
    steps = (
        gsa.equidistant(len(bar), num_steps=min(profile.num_gradient_steps, len(bar))),
        tuple(sorted({max(1, timestep_at(bar, level=level)) for level in profile.noise_levels})),
    )

    def features(of: PipelineDenoiser) -> NDArray[np.float64]:
        def of_class(part: Records, label: int) -> NDArray[np.float64]:
            norms = GradientNormsOf(
                of, label=label, shape=records.images.shape[1:], seeds=seeds.child("gsa-noise")
            )
            columns = [
                gsa.features_gsa1(part.images, gradient_norms=norms, timesteps=some)
                for some in steps
            ]
            return np.concatenate(columns, axis=1)

        known = records if of.num_classes is not None else Records(images=records.images)
        return score_by_class(known, of_class)

    fitted = gsa.fit(
        [features(shadow.model) for shadow in shadows],
        inclusion=[shadow.inclusion for shadow in shadows],
        rng=seeds.child("gsa-trees").numpy(),
    )
    scores = fitted.score(features(model))
    nothing, num_steps = np.empty(0, np.float64), sum(map(len, steps))
    return Scored(
        name="gsa",
        access=Access.WHITE_BOX,
        setting=f"gradient norms at {num_steps} timesteps",
        sign=1,
        chosen_on=f"{len(shadows)} shadow models",
        choice_aucs={},
        choice_scores=nothing,
        scores=scores,
        placebo_choice_scores=nothing,
        placebo_scores=scores[~roles.evaluation.membership],
        queries_per_record=float(num_steps * (1 + len(shadows))),
        seconds=time.perf_counter() - started,
    )

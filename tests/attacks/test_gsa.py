from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from attacks import gsa
from attacks.statistics.auc import auc


def per_record_norms(network: torch.nn.Module, alpha_bar: np.ndarray):
    """One record at a time, one backward pass each: slow and obvious."""

    def norms(x: np.ndarray, timesteps: Sequence[int]) -> np.ndarray:
        rows = []
        for image in torch.from_numpy(x):
            network.zero_grad()
            losses = []
            for t in timesteps:
                generator = torch.Generator().manual_seed(int(t))
                noise = torch.randn(image.shape, generator=generator)
                z = alpha_bar[t] ** 0.5 * image + (1 - alpha_bar[t]) ** 0.5 * noise
                answer = network(z[None].float(), torch.tensor([t]))[0]
                losses.append(((answer - noise) ** 2).mean())
            torch.stack(losses).mean().backward()
            rows.append([float(p.grad.norm()) for p in network.parameters()])
        return np.array(rows)

    return norms


def test_the_timesteps_are_those_of_the_paper() -> None:
    assert gsa.equidistant(1000, num_steps=10) == (99, 199, 299, 399, 499, 599, 699, 799, 899, 999)
    assert gsa.equidistant(5, num_steps=5) == (0, 1, 2, 3, 4)
    with pytest.raises(ValueError, match="num_steps"):
        gsa.equidistant(5, num_steps=6)


def test_gsa1_takes_the_norm_of_the_mean_and_gsa2_the_mean_of_norms(overfitted, alpha_bar) -> None:
    norms = per_record_norms(overfitted.network, alpha_bar)
    x = np.concatenate([overfitted.members[:3], overfitted.non_members[:3]])
    first = gsa.features_gsa1(x, gradient_norms=norms, timesteps=[20, 60], batch_size=4)
    second = gsa.features_gsa2(x, gradient_norms=norms, timesteps=[20, 60], batch_size=4)
    np.testing.assert_allclose(first, norms(x, [20, 60]), rtol=1e-4)
    np.testing.assert_allclose(second, (norms(x, [20]) + norms(x, [60])) / 2, rtol=1e-4)
    assert (first <= second + 1e-6).all()
    assert (first < 0.999 * second).any()


@pytest.mark.slow
def test_gsa_trained_on_a_shadow_finds_the_members_of_another_model(
    overfitted, overfitted_shadow, alpha_bar
) -> None:
    # The shadow was trained on other digits: it shares no member with the target.
    shadow = overfitted_shadow
    timesteps = (10, 20, 40)

    def features(network: torch.nn.Module, x: np.ndarray) -> np.ndarray:
        return gsa.features_gsa1(
            x, gradient_norms=per_record_norms(network, alpha_bar), timesteps=timesteps
        )

    attack = gsa.fit(
        [features(shadow.network, np.concatenate([shadow.members, shadow.non_members]))],
        inclusion=[np.arange(120) < 60],
        rng=np.random.default_rng(0),
    )
    x = np.concatenate([overfitted.members, overfitted.non_members[:60]])
    scores = attack.score(features(overfitted.network, x))
    assert auc(scores, membership=np.arange(120) < 60).value > 0.9


def test_a_score_never_depends_on_the_other_records_of_the_target(rng: np.random.Generator) -> None:
    labels = np.arange(200) < 100
    features = np.abs(rng.normal(1, 0.2, (200, 3)) - 0.5 * labels[:, None])
    attack = gsa.fit([features], inclusion=[labels], rng=rng)
    target = np.abs(rng.normal(1, 0.2, (50, 3)))
    whole = attack.score(target)
    outlier = np.concatenate([target[:5], 1e6 * np.ones((45, 3))])
    np.testing.assert_array_equal(attack.score(outlier)[:5], whole[:5])
    np.testing.assert_array_equal(attack.score(target[3:4]), whole[3:4])


def test_broken_norms_and_shadows_are_refused(images, rng: np.random.Generator) -> None:
    for bad in (np.full((7, 2), np.nan), -np.ones((7, 2)), np.ones((6, 2)), np.ones(7)):
        with pytest.raises(ValueError, match="gradient norms"):
            gsa.features_gsa1(images, gradient_norms=lambda x, t, bad=bad: bad, timesteps=[1])
    with pytest.raises(ValueError, match="at least one timestep"):
        gsa.features_gsa2(images, gradient_norms=lambda x, t: np.ones((len(x), 2)), timesteps=[])
    labels = np.array([True, False])
    with pytest.raises(ValueError, match="features per shadow"):
        gsa.fit([], inclusion=[], rng=rng)
    with pytest.raises(ValueError, match="members and non-members"):
        gsa.fit([np.ones((2, 2))], inclusion=[np.array([True, True])], rng=rng)
    with pytest.raises(ValueError, match="number of parameter tensors"):
        gsa.fit([np.ones((2, 2)), np.ones((2, 3))], inclusion=[labels, labels], rng=rng)
    fitted = gsa.fit([np.ones((2, 2))], inclusion=[labels], rng=rng)
    with pytest.raises(ValueError, match="expected 2 columns"):
        fitted.score(np.ones((2, 3)))

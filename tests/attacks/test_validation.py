"""Whole attacks on models trained here: what must be found is found, what is not there is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks import copying, denoising_loss, domias, extraction, lira, monte_carlo, nearest, rmia
from attacks.epsilon.canaries import (
    InputCanary,
    dirac_canaries,
    draw_inclusion,
    input_canaries,
)
from attacks.epsilon.guesses import GuessPlan
from attacks.epsilon.lower_bound import Method, check_claim, epsilon_lower_bound
from attacks.epsilon.trade_off import gaussian, mu_of_gaussian
from attacks.shadows import ShadowSignals, complementary_pairs, log_loss_signal
from attacks.statistics.auc import auc
from attacks.statistics.blind import blind_baseline
from attacks.statistics.placebo import check_placebo, placebo_split
from attacks.statistics.roc import roc, tpr_at_fpr


def draw_samples(trained, alpha_bar: np.ndarray, n: int) -> np.ndarray:
    """Ancestral DDPM sampling (Ho et al., Alg. 2)."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 1, 8, 8))
    for t in reversed(range(len(alpha_bar))):
        before = alpha_bar[t - 1] if t else 1.0
        beta = 1 - alpha_bar[t] / before
        e = trained.eps(z.astype(np.float32), np.full(n, t))
        z = (z - beta / np.sqrt(1 - alpha_bar[t]) * e) / np.sqrt(1 - beta)
        z = z + (t > 0) * np.sqrt(beta) * rng.standard_normal(z.shape)
    return np.clip(z, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def released(overfitted, alpha_bar: np.ndarray) -> np.ndarray:
    return draw_samples(overfitted, alpha_bar, 400)


def test_samples_of_an_overfitted_model_give_its_members_away(overfitted, released) -> None:
    x = np.concatenate([overfitted.members, overfitted.non_members])
    membership = np.arange(len(x)) < 60
    reference = overfitted.reference
    radius = monte_carlo.median_radius(x, samples=released, quantile=0.2)
    aucs = {
        name: auc(scores, membership=membership).value
        for name, scores in {
            "nearest": nearest.score(x, samples=released),
            "calibrated": nearest.score(x, samples=released, reference=reference),
            "monte carlo": monte_carlo.score(x, samples=released, radius=radius),
            "domias": domias.score(x, samples=released, reference=reference, num_components=8),
        }.items()
    }
    assert aucs["nearest"] > 0.8, aucs
    assert aucs["calibrated"] > 0.8, aucs
    assert aucs["monte carlo"] > 0.8, aucs
    assert aucs["domias"] > 0.65, aucs


def test_copies_are_extracted_from_the_model_that_has_them(overfitted, released) -> None:
    found = extraction.extract(overfitted.members, samples=released, num_neighbours=50)
    control = extraction.extract(overfitted.non_members[:60], samples=released, num_neighbours=50)
    assert found.num_distinct > 20
    # Digits resemble one another: some are "copies" of images that nobody trained on.
    assert control.num_distinct < found.num_distinct / 2
    assert copying.authenticity(overfitted.members, samples=released) < 0.35
    share = copying.closer_share(
        overfitted.members,
        holdout=overfitted.non_members[:60],
        samples=released,
        rng=np.random.default_rng(0),
    )
    assert share.p_permutation < 0.001


def test_a_placebo_on_an_overfitted_model_finds_nothing(overfitted, alpha_bar) -> None:
    pseudo = placebo_split(len(overfitted.non_members), rng=np.random.default_rng(1))
    scores = denoising_loss.score(
        overfitted.non_members,
        eps=overfitted.eps,
        alpha_bar=alpha_bar,
        timesteps=[10, 20],
        num_noises=5,
        rng=np.random.default_rng(2),
    )
    assert check_placebo(scores, membership=pseudo).inside


@pytest.mark.long
def test_the_blind_baseline_of_real_digits(toys) -> None:
    digits = toys.all_digits()[:300]
    members = np.arange(300) < 150
    alike = blind_baseline(digits, membership=members, rng=np.random.default_rng(0))
    assert not alike.differs
    shifted = digits.copy()
    shifted[150:] *= 0.8
    caught = blind_baseline(shifted, membership=members, rng=np.random.default_rng(0))
    assert caught.differs
    assert caught.auc.value > 0.99


def losses_of(network, x: np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    def eps(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(z), torch.from_numpy(t)).numpy()

    return denoising_loss.losses(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        timesteps=[5, 10, 20, 40, 60],
        num_noises=20,
        rng=np.random.default_rng(3),
    )


def average_losses(network, x: np.ndarray, alpha_bar: np.ndarray) -> np.ndarray:
    return losses_of(network, x, alpha_bar).mean(axis=1)


@pytest.mark.slow
def test_shadow_models_decide_the_low_false_positive_rate(toys, alpha_bar) -> None:
    """600 digits, 300 members, moderate overfit, 8 shadows in complementary pairs."""
    x = toys.all_digits()[:600]
    population = toys.all_digits()[600:900]
    rng = np.random.default_rng(0)
    membership = complementary_pairs(600, num_pairs=1, rng=rng)[0]
    inclusion = complementary_pairs(600, num_pairs=4, rng=rng)

    def losses(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        network = toys.train_digits(x[rows], num_steps=4000, width=256, seed=seed)
        both = losses_of(network, np.concatenate([x, population]), alpha_bar)
        return both[:600], both[600:]

    of_target, of_population = losses(membership, 99)
    each = [losses(rows, seed) for seed, rows in enumerate(inclusion)]
    of_shadows, of_shadow_population = (np.stack(part) for part in zip(*each, strict=True))
    target, target_population = of_target.mean(axis=1), of_population.mean(axis=1)
    shadow, shadow_population = of_shadows.mean(axis=2), of_shadow_population.mean(axis=2)
    signals = ShadowSignals(signals=log_loss_signal(shadow), inclusion=inclusion)
    raw = ShadowSignals(signals=shadow, inclusion=inclusion)
    scores = {
        "loss": -target,
        "lira": lira.score(log_loss_signal(target), shadows=signals),
        "lira joint": lira.score_joint(
            log_loss_signal(of_target),
            shadow_signals=log_loss_signal(of_shadows),
            inclusion=inclusion,
        ),
        "lira offline": lira.score_offline(log_loss_signal(target), shadows=signals),
        "rmia": rmia.score(
            target,
            shadow_losses=raw,
            population_losses=target_population,
            population_shadow_losses=shadow_population,
            temperature=rmia.temperature_from_shadows(raw),
        ),
    }
    table = {
        name: (
            round(auc(values, membership=membership).value, 3),
            round(tpr_at_fpr(roc(values, membership=membership), target=0.01).tpr, 3),
        )
        for name, values in scores.items()
    }
    assert table["lira"][0] > table["loss"][0] + 0.1, table
    assert table["lira"][1] > 4 * table["loss"][1], table
    assert table["lira joint"][0] > table["lira"][0], table
    assert table["rmia"][0] > table["loss"][0] + 0.1, table


def dp_train(toys, alpha_bar, *, data: np.ndarray, extra: np.ndarray, sigma: float, steps: int):
    """Full-batch DP-SGD (sampling rate 1, clip 1): exactly sqrt(steps) / sigma Gaussian DP.

    extra is added to every step's clipped sum before the noise. Returns network and sum of sums.
    """
    generator = torch.Generator().manual_seed(0)
    network = toys.DigitNet(32, generator)
    parameters = dict(network.named_parameters())
    bar = torch.from_numpy(alpha_bar).float()
    images = torch.from_numpy(data)

    def loss(values, image, t, signal, noise):
        z = signal.sqrt() * image + (1 - signal).sqrt() * noise
        answer = torch.func.functional_call(network, values, (z[None], t[None]))
        return ((answer[0] - noise) ** 2).mean()

    per_image = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0, 0))
    total = torch.zeros(sum(p.numel() for p in parameters.values()))
    for _ in range(steps):
        t = torch.randint(60, (len(images),), generator=generator)
        noise = torch.randn(images.shape, generator=generator)
        values = {name: p.detach() for name, p in parameters.items()}
        grads = per_image(values, images, t, bar[t], noise)
        rows = torch.cat([g.flatten(1) for g in grads.values()], dim=1)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1)
        step = rows.sum(dim=0) + torch.from_numpy(extra).float()
        step = step + sigma * torch.randn(step.shape, generator=generator)
        total += step
        with torch.no_grad():
            moved = torch.nn.utils.parameters_to_vector(network.parameters())
            torch.nn.utils.vector_to_parameters(
                moved - 2.0 * step / len(images), network.parameters()
            )
    return network.eval(), total.numpy()


@pytest.mark.long
@pytest.mark.parametrize("epsilon", [2.2, 4.91])
def test_a_dp_trained_model_is_never_shown_to_leak_more_than_proven(
    toys, alpha_bar, epsilon: float
) -> None:
    delta, steps, m = 1e-5, 40, 300
    rng = np.random.default_rng(5)
    mu = mu_of_gaussian(epsilon, delta=delta)
    plans = [GuessPlan(num_included=60, num_left_out=60)]
    planted = input_canaries(m, shape=(1, 8, 8), kind=InputCanary.BINARY, rng=rng)
    of_inputs, of_diracs = draw_inclusion(m, rng=rng), draw_inclusion(m, rng=rng)
    size = sum(p.numel() for p in toys.DigitNet(32, torch.Generator()).parameters())
    diracs = dirac_canaries(m, num_parameters=size, clip_norm=1.0, rng=rng)
    extra = sum(diracs.gradient(i) for i in np.flatnonzero(of_diracs))
    data = np.concatenate([toys.all_digits()[:100], planted[of_inputs]])
    for claimed, sigma in ((True, np.sqrt(steps) / mu), (False, np.sqrt(steps) / mu / 10)):
        network, total = dp_train(toys, alpha_bar, data=data, extra=extra, sigma=sigma, steps=steps)
        for scores, inclusion in (
            (-average_losses(network, planted, alpha_bar), of_inputs),
            (diracs.score(total), of_diracs),
        ):
            for method in Method:
                bound = epsilon_lower_bound(
                    scores, inclusion=inclusion, plans=plans, delta=delta, rng=rng, method=method
                )
                if claimed:
                    assert bound.value <= epsilon
        verdict = check_claim(
            diracs.score(total),
            inclusion=of_diracs,
            plans=plans,
            trade_off=gaussian(mu),
            rng=rng,
        )
        assert verdict.can_contradict
        assert verdict.contradicted is not claimed

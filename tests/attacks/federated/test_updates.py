from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import norm

from attacks.federated.updates import (
    ObservedRound,
    cosines,
    fedmia_score,
    mean_cosine_score,
    summed,
)
from attacks.statistics.auc import auc

TIMESTEPS = (5, 20, 60)
NUM_ROUNDS = 10


def gradients_of(network: torch.nn.Module, alpha_bar: np.ndarray):
    """Per-record gradients, one backward pass each; the noise depends on the timestep only."""
    frozen = copy.deepcopy(network)

    def gradients(x: np.ndarray) -> np.ndarray:
        rows = []
        for image in torch.from_numpy(x):
            frozen.zero_grad()
            z, noises = [], []
            for t in TIMESTEPS:
                noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(t))
                z.append(alpha_bar[t] ** 0.5 * image + (1 - alpha_bar[t]) ** 0.5 * noise)
                noises.append(noise)
            answer = frozen(torch.stack(z).float(), torch.tensor(TIMESTEPS))
            ((answer - torch.stack(noises)) ** 2).mean().backward()
            rows.append(torch.cat([p.grad.flatten() for p in frozen.parameters()]).numpy().copy())
        return np.stack(rows)

    return gradients


def flat(network: torch.nn.Module) -> np.ndarray:
    return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy().copy()


@pytest.fixture(scope="module")
def federation(toys):
    """Trained long enough to leak; site 0 is under attack."""
    return trained(toys, num_rounds=NUM_ROUNDS, num_steps=100)


@pytest.fixture(scope="module")
def short_federation(toys):
    """For what holds of any updates."""
    return trained(toys, num_rounds=2, num_steps=5)


def trained(toys, *, num_rounds: int, num_steps: int):
    """5 sites of 20 digits, rounds of local SGD, updates averaged."""
    torch.set_num_threads(1)
    digits, bar = toys.all_digits(), toys.linear_alpha_bar()
    bar32 = torch.from_numpy(bar).float()
    sites = [torch.from_numpy(digits[20 * k : 20 * (k + 1)]) for k in range(5)]
    generator = torch.Generator().manual_seed(0)
    network = toys.DigitNet(64, generator)
    rounds = []
    for _ in range(num_rounds):
        before = flat(network)
        updates = []
        for data in sites:
            local = copy.deepcopy(network)
            optimizer = torch.optim.SGD(local.parameters(), lr=0.3)
            for _ in range(num_steps):
                t = torch.randint(100, (len(data),), generator=generator)
                noise = torch.randn(data.shape, generator=generator)
                signal = bar32[t][:, None, None, None]
                z = signal.sqrt() * data + (1 - signal).sqrt() * noise
                optimizer.zero_grad()
                ((local(z, t) - noise) ** 2).mean().backward()
                optimizer.step()
            updates.append(flat(local) - before)
        rounds.append(
            ObservedRound(gradients=gradients_of(network, bar), updates=np.stack(updates))
        )
        mean = torch.from_numpy(before + np.mean(updates, axis=0))
        torch.nn.utils.vector_to_parameters(mean, network.parameters())
    x = np.concatenate([digits[:20], digits[400:440]])
    return rounds, x, np.arange(60) < 20


def slow_cosine(gradient: np.ndarray, update: np.ndarray) -> float:
    a, b = gradient.astype(float), -update.astype(float)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.slow
def test_cosines_and_fedmia_follow_their_definitions(federation) -> None:
    rounds, x, _ = federation
    found = cosines(x[:4], rounds=rounds, batch_size=3)
    assert found.shape == (NUM_ROUNDS, 4, 5)
    slow = np.array(
        [
            [[slow_cosine(g, u) for u in observed.updates] for g in observed.gradients(x[:4])]
            for observed in rounds
        ]
    )
    np.testing.assert_allclose(found, slow, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(mean_cosine_score(found, site=2), slow[:, :, 2].mean(axis=0))
    expected = []
    for i in range(4):
        per_round = []
        for r in range(NUM_ROUNDS):
            others = [slow[r, i, k] for k in range(5) if k != 1]
            per_round.append(norm.cdf((slow[r, i, 1] - np.mean(others)) / np.std(others, ddof=1)))
        expected.append(np.mean(per_round))
    np.testing.assert_allclose(fedmia_score(found, site=1), expected, rtol=1e-4)


def test_secure_aggregation_shows_the_sum_and_nothing_else(short_federation) -> None:
    rounds, x, _ = short_federation
    hidden = summed(rounds)
    for seen, observed in zip(hidden, rounds, strict=True):
        np.testing.assert_allclose(seen.updates[0], observed.updates.sum(axis=0), atol=1e-6)
    shuffled = [
        ObservedRound(gradients=o.gradients, updates=o.updates[[3, 1, 4, 0, 2]]) for o in rounds
    ]
    np.testing.assert_allclose(
        cosines(x[:3], rounds=summed(shuffled)), cosines(x[:3], rounds=hidden), atol=1e-6
    )
    with pytest.raises(ValueError, match="at least 3 sites"):
        fedmia_score(cosines(x[:3], rounds=hidden), site=0)


@pytest.mark.slow
def test_a_server_that_sees_updates_finds_members_better_than_through_the_sum(federation) -> None:
    rounds, x, membership = federation
    each, hidden = cosines(x, rounds=rounds), cosines(x, rounds=summed(rounds))
    aucs = {
        "cosine": auc(mean_cosine_score(each, site=0), membership=membership).value,
        "fedmia": auc(fedmia_score(each, site=0), membership=membership).value,
        "sum": auc(mean_cosine_score(hidden), membership=membership).value,
    }
    assert aucs["cosine"] > 0.85, aucs
    assert aucs["fedmia"] > 0.75, aucs
    assert aucs["sum"] < 0.7, aucs


def test_broken_rounds_are_refused(short_federation) -> None:
    rounds, x, _ = short_federation
    with pytest.raises(ValueError, match="at least one observed round"):
        cosines(x, rounds=[])
    for bad, says in ((np.zeros(3), r"\(K, D\)"), (np.full((2, 3), np.nan), "NaN")):
        with pytest.raises(ValueError, match=says):
            ObservedRound(gradients=rounds[0].gradients, updates=bad)
    fewer = ObservedRound(gradients=rounds[0].gradients, updates=rounds[0].updates[:4])
    with pytest.raises(ValueError, match="took part in all"):
        cosines(x, rounds=[rounds[0], fewer])
    for answer, says in ((np.zeros((7, 3)), "shape"), (np.full((60, 2), np.nan), "NaN")):
        broken = ObservedRound(gradients=lambda x, a=answer: a, updates=np.ones((3, 2)))
        with pytest.raises(ValueError, match=says):
            cosines(x, rounds=[broken], batch_size=60)
    same = np.ones((2, 4, 5))
    with pytest.raises(ValueError, match="agree exactly"):
        fedmia_score(same, site=0)
    for site in (-1, 5):
        with pytest.raises(ValueError, match="site"):
            mean_cosine_score(same, site=site)


def test_a_zero_gradient_has_no_direction(images) -> None:
    still = ObservedRound(gradients=lambda x: np.zeros((len(x), 3)), updates=np.ones((2, 3)))
    assert (cosines(images, rounds=[still]) == 0).all()

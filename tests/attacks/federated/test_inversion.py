from __future__ import annotations

import numpy as np
import pytest
import torch

from attacks.federated.inversion import (
    Matching,
    _distance,
    _total_variation,
    finite_difference_vjp,
    invert,
    psnr,
)

T = 30


@pytest.fixture(scope="module")
def step(toys):
    """One record's denoising loss at a known timestep and noise: gradient and its vjp."""
    torch.set_num_threads(1)
    bar = toys.linear_alpha_bar()
    network = toys.DigitNet(48, torch.Generator().manual_seed(1)).double()
    parameters = tuple(network.parameters())
    noise = torch.from_numpy(np.random.default_rng(2).standard_normal((1, 1, 8, 8)))

    def gradient_in(image: torch.Tensor, *, create_graph: bool) -> torch.Tensor:
        z = bar[T] ** 0.5 * image[None] + (1 - bar[T]) ** 0.5 * noise
        loss = ((network(z, torch.tensor([T])) - noise) ** 2).mean()
        parts = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return torch.cat([part.flatten() for part in parts])

    def gradient(u: np.ndarray) -> np.ndarray:
        return gradient_in(torch.from_numpy(u), create_graph=False).numpy()

    def vjp(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(u).requires_grad_(True)
        along = gradient_in(image, create_graph=True) @ torch.from_numpy(v)
        return torch.autograd.grad(along, image)[0].numpy()

    truth = toys.all_digits()[11].astype(np.float64)
    return gradient, vjp, truth


def test_numerical_and_automatic_derivatives_agree(step, rng: np.random.Generator) -> None:
    gradient, vjp, truth = step
    v = rng.standard_normal(gradient(truth).shape)
    u = 0.5 * truth
    np.testing.assert_allclose(
        finite_difference_vjp(gradient)(u, v), vjp(u, v), rtol=1e-4, atol=1e-8
    )


@pytest.mark.parametrize("matching", list(Matching))
def test_one_gradient_gives_the_image_away(step, matching: Matching) -> None:
    gradient, vjp, truth = step
    found = invert(
        gradient(truth),
        gradient=gradient,
        vjp=vjp,
        shape=(1, 8, 8),
        rng=np.random.default_rng(0),
        matching=matching,
        num_restarts=2,
    )
    assert psnr(found.reconstruction, truth=truth) > 30
    assert found.mismatch == min(found.mismatches) < 1e-4
    assert len(found.mismatches) == 2


def test_noise_on_the_gradient_hides_the_image(step) -> None:
    gradient, vjp, truth = step
    observed = gradient(truth)
    rng = np.random.default_rng(1)
    noisy = observed + rng.normal(0, 3 * np.linalg.norm(observed) / 70, observed.shape)
    found = invert(noisy, gradient=gradient, vjp=vjp, shape=(1, 8, 8), rng=rng, num_restarts=1)
    assert psnr(found.reconstruction, truth=truth) < 20


def test_a_small_image_is_found_without_derivatives(rng: np.random.Generator) -> None:
    weights = rng.standard_normal((30, 9))

    def gradient(u: np.ndarray) -> np.ndarray:
        return np.tanh(weights @ u.ravel())

    truth = rng.uniform(-0.9, 0.9, (1, 3, 3))
    found = invert(gradient(truth), gradient=gradient, vjp=None, shape=(1, 3, 3), rng=rng)
    assert psnr(found.reconstruction, truth=truth) > 40


@pytest.mark.parametrize("matching", list(Matching))
def test_the_objectives_have_the_derivatives_they_claim(matching: Matching, rng) -> None:
    answer, target = rng.standard_normal((2, 6))
    _, slope = _distance(answer, target, matching=matching)
    for i in range(6):
        shift = np.zeros(6)
        shift[i] = 1e-6
        ahead = _distance(answer + shift, target, matching=matching)[0]
        behind = _distance(answer - shift, target, matching=matching)[0]
        assert slope[i] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-8)
    assert _distance(target, target, matching=matching)[0] == pytest.approx(0, abs=1e-15)


def test_total_variation_and_its_derivative(rng: np.random.Generator) -> None:
    u = rng.standard_normal((2, 4, 5))
    value, slope = _total_variation(u)
    slow = np.abs(np.diff(u, axis=1)).sum() + np.abs(np.diff(u, axis=2)).sum()
    assert value == pytest.approx(slow / u.size, rel=1e-5)
    shift = 1e-6 * rng.standard_normal(u.shape)
    change = _total_variation(u + shift)[0] - _total_variation(u - shift)[0]
    assert change == pytest.approx(2 * (slope * shift).sum(), rel=1e-4)
    assert _total_variation(np.ones((1, 4, 4)))[0] == pytest.approx(0, abs=2e-4)


def test_a_gradient_that_says_nothing_is_refused(rng: np.random.Generator) -> None:
    def gradient(u: np.ndarray) -> np.ndarray:
        return u.ravel()

    arguments = {"gradient": gradient, "vjp": None, "shape": (1, 1, 2), "rng": rng}
    for bad, says in (
        (np.zeros(2), "zero"),
        (np.array([np.nan, 1]), "finite"),
        (np.ones((2, 1)), r"\(D,\)"),
        (np.ones(3), "gradient: expected"),
    ):
        with pytest.raises(ValueError, match=says):
            invert(bad, **arguments)
    with pytest.raises(ValueError, match="num_restarts"):
        invert(np.ones(2), **arguments, num_restarts=0)
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(np.zeros(3), truth=np.zeros(4))
    assert psnr(np.zeros(3), truth=np.zeros(3)) == float("inf")

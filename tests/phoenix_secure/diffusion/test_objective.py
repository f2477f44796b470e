"""The training targets: each is what its sampler expects, and each draw repeats."""

from __future__ import annotations

import pytest
import torch
from diffusers import EDMEulerScheduler

from phoenix_secure.config import DiffusionConfig
from phoenix_secure.diffusion.objective import Objective, q_sample
from phoenix_secure.diffusion.schedule import alpha_bar, sampling_scheduler
from phoenix_secure.rng import SeedTree

CPU = torch.device("cpu")
X0 = torch.rand((16, 1, 8, 8), generator=SeedTree(1).torch()) * 2 - 1


def objective(**settings: object) -> Objective:
    return Objective(DiffusionConfig(**settings), device=CPU)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_perfect_network_lets_ddim_recover_the_image(prediction: str) -> None:
    diffusion = DiffusionConfig(prediction=prediction)
    pair = Objective(diffusion, device=CPU).pair(X0, generator=SeedTree(2).torch())
    scheduler = sampling_scheduler(diffusion, sampler="ddim")
    scheduler.set_timesteps(50)
    for i, t in enumerate(pair.times):
        if alpha_bar(diffusion)[t] < 1e-4:
            continue  # almost nothing of the image is left in float32
        step = scheduler.step(pair.target[i : i + 1], t, pair.inputs[i : i + 1])
        torch.testing.assert_close(step.pred_original_sample, X0[i : i + 1], rtol=0, atol=2e-3)


def test_edm_target_is_what_its_scheduler_unwraps() -> None:
    diffusion = DiffusionConfig(prediction="edm")
    pair = Objective(diffusion, device=CPU).pair(X0, generator=SeedTree(3).torch())
    scheduler = EDMEulerScheduler(sigma_data=diffusion.edm_sigma_data)
    for i in range(len(X0)):
        sigma = (4 * pair.times[i]).exp()
        # The scheduler scales the input by c_in and joins c_skip and c_out around the output.
        noised = pair.inputs[i] * (sigma**2 + diffusion.edm_sigma_data**2).sqrt()
        denoised = scheduler.precondition_outputs(noised, pair.target[i], sigma)
        torch.testing.assert_close(denoised, X0[i], rtol=0, atol=5e-4)


def test_v_is_the_velocity_of_salimans_and_ho() -> None:
    diffusion = DiffusionConfig(prediction="v")
    pair = Objective(diffusion, device=CPU).pair(X0, generator=SeedTree(4).torch())
    a = alpha_bar(diffusion).float()[pair.times].view(-1, 1, 1, 1)
    eps = (pair.inputs - a.sqrt() * X0) / (1 - a).sqrt()
    torch.testing.assert_close(
        pair.target, a.sqrt() * eps - (1 - a).sqrt() * X0, rtol=1e-3, atol=1e-2
    )


def test_loss_is_zero_for_the_target_and_per_image_otherwise() -> None:
    fixed = objective(prediction="epsilon")
    target = fixed.pair(X0, generator=SeedTree(5).torch()).target
    perfect = fixed.loss(lambda x, t, y: target, X0, None, generator=SeedTree(5).torch())
    assert torch.equal(perfect, torch.zeros(16))
    one_wrong = target.clone()
    one_wrong[3] += 2.0
    loss = fixed.loss(lambda x, t, y: one_wrong, X0, None, generator=SeedTree(5).torch())
    torch.testing.assert_close(loss[3].item(), 4.0)
    assert loss[:3].sum() + loss[4:].sum() == 0


@pytest.mark.parametrize(("prediction", "offset"), [("epsilon", 0.0), ("v", 1.0)])
def test_min_snr_weight_is_the_papers(prediction: str, offset: float) -> None:
    diffusion = DiffusionConfig(prediction=prediction, min_snr_gamma=5)
    pair = Objective(diffusion, device=CPU).pair(X0, generator=SeedTree(6).torch())
    for t, weight in zip(pair.times, pair.weight, strict=True):
        a = float(alpha_bar(diffusion)[t])
        snr = a / (1 - a)
        assert float(weight) == pytest.approx(min(snr, 5.0) / (snr + offset), rel=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "edm"])
def test_same_seed_draws_the_same_pair(prediction: str) -> None:
    one = objective(prediction=prediction).pair(X0, generator=SeedTree(7).torch())
    two = objective(prediction=prediction).pair(X0, generator=SeedTree(7).torch())
    other = objective(prediction=prediction).pair(X0, generator=SeedTree(8).torch())
    assert torch.equal(one.inputs, two.inputs)
    assert torch.equal(one.times, two.times)
    assert not torch.equal(one.inputs, other.inputs)


def test_noise_levels_cover_the_whole_process() -> None:
    x0 = torch.zeros((4000, 1, 1, 1))
    times = objective(num_timesteps=100).pair(x0, generator=SeedTree(9).torch()).times
    counts = torch.bincount(times, minlength=100)
    assert len(counts) == 100
    assert counts.min() > 0  # missing one has probability below 100 exp(-40)


def test_q_sample_has_the_variance_of_the_process() -> None:
    eps = torch.randn((20000, 1, 1, 1), generator=SeedTree(10).torch())
    z = q_sample(torch.full_like(eps, 0.5), eps, torch.full((20000,), 0.36))
    assert z.mean().item() == pytest.approx(0.3, abs=0.03)
    assert z.var().item() == pytest.approx(0.64, abs=0.03)


class TorchDraws:
    """A generator of torch's as a source."""

    def __init__(self) -> None:
        self._generator = SeedTree(8).torch()

    def normal(self, num: int) -> torch.Tensor:
        return torch.randn(num, generator=self._generator)

    def integers(self, num: int, *, below: int) -> torch.Tensor:
        return torch.randint(below, (num,), generator=self._generator)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "edm"])
def test_secret_pair_is_the_pair_of_its_draws(prediction: str) -> None:
    found = objective(prediction=prediction).secret_pair(X0, draws=TorchDraws())
    expected = objective(prediction=prediction).pair(X0, generator=SeedTree(8).torch())
    for name in ("inputs", "times", "target", "weight"):
        assert torch.equal(getattr(found, name), getattr(expected, name))

"""Each denoiser attack against a slow one-record version, on random and trained denoisers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attacks import denoising_loss, pia, rediffuse, secmi, sima
from attacks.denoiser import CommonNoise
from attacks.statistics.auc import auc


@pytest.fixture(params=["random", "trained"])
def setting(request, images, random_denoiser, overfitted):
    """(images, denoiser); the trained one on members and non-members."""
    if request.param == "random":
        return images, random_denoiser
    return np.concatenate([overfitted.members[:4], overfitted.non_members[:4]]), overfitted.eps


def ask(eps, z: np.ndarray, t: int) -> np.ndarray:
    """One record, one query, with plain floats out."""
    return eps(z[None].astype(np.float32), np.array([t], dtype=np.int64))[0].astype(float)


def step(eps, bar: np.ndarray, z: np.ndarray, t: int, s: int) -> np.ndarray:
    e = ask(eps, z, t)
    x0 = (z - math.sqrt(1 - bar[t]) * e) / math.sqrt(bar[t])
    return math.sqrt(bar[s]) * x0 + math.sqrt(1 - bar[s]) * e


def test_the_loss_is_the_mean_squared_error_of_the_predicted_noise(setting, alpha_bar) -> None:
    x, eps = setting
    timesteps, draws = [3, 40, 120], 4
    found = denoising_loss.losses(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        timesteps=timesteps,
        num_noises=draws,
        rng=np.random.default_rng(2),
    )
    noise = CommonNoise(np.random.default_rng(2), shape=x.shape[1:])
    for i, image in enumerate(x):
        for column, t in enumerate(timesteps):
            total = 0.0
            for draw in range(draws):
                e = noise.draw(column, draw)
                z = math.sqrt(alpha_bar[t]) * image + math.sqrt(1 - alpha_bar[t]) * e
                total += float(np.mean((ask(eps, z, t) - e) ** 2))
            assert found[i, column] == pytest.approx(total / draws, rel=1e-4)
    scores = denoising_loss.score(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        timesteps=timesteps,
        num_noises=draws,
        rng=np.random.default_rng(2),
    )
    np.testing.assert_allclose(scores, -found.mean(axis=1))


def test_secmi_is_the_t_error_at_t_itself(setting, alpha_bar) -> None:
    x, eps = setting
    slow = []
    for image in x:
        z = image.astype(float)
        for now in (0, 5, 10, 15):
            z = step(eps, alpha_bar, z, now, now + 5)
        back = step(eps, alpha_bar, step(eps, alpha_bar, z, 20, 25), 25, 20)
        slow.append(-float(np.sum((z - back) ** 2)))
    found = secmi.score(x, eps=eps, alpha_bar=alpha_bar, t=20, interval=5)
    np.testing.assert_allclose(found, slow, rtol=1e-4)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("p", [2, 4])
def test_pia_is_the_power_sum_without_a_root(setting, alpha_bar, normalized: bool, p: int) -> None:
    x, eps = setting
    slow = []
    for image in x:
        e0 = ask(eps, image, 0)
        if normalized:
            e0 = e0 / np.mean(np.abs(e0)) * 0.7978845608028654
        z = math.sqrt(alpha_bar[30]) * image + math.sqrt(1 - alpha_bar[30]) * e0
        slow.append(-float(np.sum(np.abs(e0 - ask(eps, z, 30)) ** p)))
    found = pia.score(x, eps=eps, alpha_bar=alpha_bar, t=30, normalized=normalized, p=p)
    np.testing.assert_allclose(found, slow, rtol=1e-4)


def test_pian_scales_to_the_half_normal_mean(rng: np.random.Generator) -> None:
    # sqrt(2/pi) is E|N(0,1)|; sqrt(pi/2), met in a second implementation, is not.
    assert np.abs(rng.standard_normal(10**6)).mean() == pytest.approx(math.sqrt(2 / math.pi), 3e-3)
    assert math.sqrt(math.pi / 2) / math.sqrt(2 / math.pi) == pytest.approx(1.5708, 1e-4)


def test_pian_refuses_a_denoiser_that_finds_no_noise(images, alpha_bar) -> None:
    with pytest.raises(ValueError, match="cannot be normalised"):
        pia.score(
            images,
            eps=lambda z, t: np.zeros(z.shape),
            alpha_bar=alpha_bar,
            t=30,
            normalized=True,
        )


def test_sima_asks_about_the_clean_image(setting) -> None:
    x, eps = setting
    slow = [-float(np.sum(ask(eps, image, 25) ** 4)) for image in x]
    np.testing.assert_allclose(sima.score(x, eps=eps, t=25), slow, rtol=1e-4)
    with pytest.raises(ValueError, match="t >= 0"):
        sima.score(x, eps=eps, t=-1)


def test_rediffuse_averages_variations_denoised_to_index_zero(setting, alpha_bar) -> None:
    x, eps = setting
    noise = CommonNoise(np.random.default_rng(7), shape=x.shape[1:])
    slow = []
    for image in x:
        mean = np.zeros(image.shape)
        for draw in range(3):
            z = math.sqrt(alpha_bar[40]) * image + math.sqrt(1 - alpha_bar[40]) * noise.draw(draw)
            for now, to in ((40, 20), (20, 0)):
                z = step(eps, alpha_bar, z, now, to)
            mean = mean + z / 3
        slow.append(-float(np.linalg.norm(image - mean)))
    found = rediffuse.score(
        x,
        eps=eps,
        alpha_bar=alpha_bar,
        t=40,
        interval=20,
        num_variations=3,
        rng=np.random.default_rng(7),
    )
    np.testing.assert_allclose(found, slow, rtol=1e-4)


def test_rediffuse_never_asks_off_the_grid(images, alpha_bar, random_denoiser) -> None:
    # 50 - 2 * 20 = 10, then -10: an index that would read the noisy end of the schedule.
    with pytest.raises(ValueError, match="multiple of interval"):
        rediffuse.score(
            images,
            eps=random_denoiser,
            alpha_bar=alpha_bar,
            t=50,
            interval=20,
            num_variations=2,
            rng=np.random.default_rng(0),
        )
    rediffuse.score(
        images,
        eps=random_denoiser,
        alpha_bar=alpha_bar,
        t=60,
        interval=20,
        num_variations=1,
        rng=np.random.default_rng(0),
    )
    assert [t for _, t in random_denoiser.calls] == [60, 40, 20]


def test_secmi_refuses_to_leave_the_schedule(images, alpha_bar, random_denoiser) -> None:
    with pytest.raises(ValueError, match="t < 200"):
        secmi.score(images, eps=random_denoiser, alpha_bar=alpha_bar, t=190, interval=10)


def scores_of(trained, alpha_bar: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    x = np.concatenate([trained.members, trained.non_members])

    def fresh() -> np.random.Generator:
        return np.random.default_rng(1)

    found = {
        "loss": denoising_loss.score(
            x,
            eps=trained.eps,
            alpha_bar=alpha_bar,
            timesteps=[10, 20, 40],
            num_noises=10,
            rng=fresh(),
        ),
        "secmi": secmi.score(x, eps=trained.eps, alpha_bar=alpha_bar, t=20, interval=5),
        "pia": pia.score(x, eps=trained.eps, alpha_bar=alpha_bar, t=20),
        "pian": pia.score(x, eps=trained.eps, alpha_bar=alpha_bar, t=40, normalized=True),
        "sima": sima.score(x, eps=trained.eps, t=20),
        "rediffuse": rediffuse.score(
            x,
            eps=trained.eps,
            alpha_bar=alpha_bar,
            t=40,
            interval=20,
            num_variations=8,
            rng=fresh(),
        ),
    }
    return found, np.arange(len(x)) < len(trained.members)


def test_attacks_succeed_on_an_overfitted_model(overfitted, alpha_bar) -> None:
    found, membership = scores_of(overfitted, alpha_bar)
    aucs = {name: auc(scores, membership=membership).value for name, scores in found.items()}
    for name in ("loss", "secmi", "pia", "sima"):
        assert aucs[name] > 0.97, aucs
    assert aucs["rediffuse"] > 0.9, aucs
    assert aucs["pian"] > 0.75, aucs


def test_attacks_find_nothing_where_each_image_was_seen_once(seen_once, alpha_bar) -> None:
    from attacks.statistics.placebo import null_band

    found, membership = scores_of(seen_once, alpha_bar)
    band = null_band(600, num_non_members=600, confidence=0.999)
    for name, scores in found.items():
        assert auc(scores, membership=membership).value in band, name

from __future__ import annotations

import numpy as np
import pytest

from attacks import denoising_loss, pia, rediffuse, secmi, sima
from attacks.denoiser import CommonNoise, check_alpha_bar, check_timestep, ddim, predict_noise


@pytest.mark.parametrize(
    "bad", [[0.9], [[0.9, 0.8]], [0.9, np.nan], [1.0, 0.5], [0.5, 0.0], [0.5, 0.6], [0.5, 0.5]]
)
def test_a_schedule_that_is_none_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="alpha_bar"):
        check_alpha_bar(bad)


def test_timesteps_off_the_schedule_or_off_the_grid_are_refused(alpha_bar: np.ndarray) -> None:
    check_timestep(0, alpha_bar=alpha_bar)
    check_timestep(20, alpha_bar=alpha_bar, interval=10)
    for t, interval in ((-1, None), (200, None), (25, 10), (0, 10), (20, 0)):
        with pytest.raises(ValueError, match="expected"):
            check_timestep(t, alpha_bar=alpha_bar, interval=interval)


def test_common_noise_depends_on_its_key_and_the_generator_alone() -> None:
    a = CommonNoise(np.random.default_rng(1), shape=(2, 3))
    b = CommonNoise(np.random.default_rng(1), shape=(2, 3))
    c = CommonNoise(np.random.default_rng(2), shape=(2, 3))
    later = b.draw(0, 1)
    np.testing.assert_array_equal(a.draw(3, 4), b.draw(3, 4))
    np.testing.assert_array_equal(a.draw(0, 1), later)
    assert not np.array_equal(a.draw(3, 4), a.draw(4, 3))
    assert not np.array_equal(a.draw(3, 4), c.draw(3, 4))


def test_common_noise_is_standard_normal() -> None:
    noise = CommonNoise(np.random.default_rng(1), shape=(4,))
    draws = np.array([noise.draw(i) for i in range(5000)])
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
    assert abs(draws.std() - 1) < 4 / np.sqrt(2 * draws.size)


def test_ddim_with_the_true_noise_moves_along_the_forward_process(
    alpha_bar: np.ndarray, images: np.ndarray, rng: np.random.Generator
) -> None:
    e = rng.standard_normal(images.shape)

    def oracle(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        return e

    z = np.sqrt(alpha_bar[50]) * images + np.sqrt(1 - alpha_bar[50]) * e
    for to in (0, 30, 90):
        expected = np.sqrt(alpha_bar[to]) * images + np.sqrt(1 - alpha_bar[to]) * e
        np.testing.assert_allclose(
            ddim(z, eps=oracle, alpha_bar=alpha_bar, t=50, to=to), expected, rtol=1e-9, atol=1e-9
        )


def run_all(x: np.ndarray, eps, alpha_bar: np.ndarray) -> dict[str, np.ndarray]:
    def fresh() -> np.random.Generator:
        return np.random.default_rng(9)

    return {
        "loss": denoising_loss.score(
            x, eps=eps, alpha_bar=alpha_bar, timesteps=[5, 50], num_noises=3, rng=fresh()
        ),
        "secmi": secmi.score(x, eps=eps, alpha_bar=alpha_bar, t=20, interval=10),
        "pia": pia.score(x, eps=eps, alpha_bar=alpha_bar, t=30),
        "pian": pia.score(x, eps=eps, alpha_bar=alpha_bar, t=30, normalized=True),
        "sima": sima.score(x, eps=eps, t=30),
        "rediffuse": rediffuse.score(
            x, eps=eps, alpha_bar=alpha_bar, t=20, interval=10, num_variations=3, rng=fresh()
        ),
    }


@pytest.mark.parametrize("answer", ["nan", "inf", "shape"])
def test_every_attack_refuses_a_broken_denoiser(
    alpha_bar: np.ndarray, images: np.ndarray, answer: str
) -> None:
    def broken(z: np.ndarray, t: np.ndarray) -> np.ndarray:
        if answer == "shape":
            return z[:, :1]
        out = np.zeros(z.shape)
        out[-1, 0, 0, 0] = np.nan if answer == "nan" else np.inf
        return out

    with pytest.raises(ValueError, match="denoiser: returned"):
        predict_noise(broken, images, t=1)
    for attack in (denoising_loss, secmi, pia, sima, rediffuse):
        name = attack.__name__.rsplit(".", 1)[-1]
        with pytest.raises(ValueError, match="denoiser: returned"):
            ATTACKS[name](images, broken, alpha_bar)


ATTACKS = {
    "denoising_loss": lambda x, eps, bar: denoising_loss.score(
        x, eps=eps, alpha_bar=bar, timesteps=[5], num_noises=1, rng=np.random.default_rng(0)
    ),
    "secmi": lambda x, eps, bar: secmi.score(x, eps=eps, alpha_bar=bar, t=20, interval=10),
    "pia": lambda x, eps, bar: pia.score(x, eps=eps, alpha_bar=bar, t=20),
    "sima": lambda x, eps, bar: sima.score(x, eps=eps, t=20),
    "rediffuse": lambda x, eps, bar: rediffuse.score(
        x,
        eps=eps,
        alpha_bar=bar,
        t=20,
        interval=10,
        num_variations=1,
        rng=np.random.default_rng(0),
    ),
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_attack_refuses_bytes_and_nan_images(
    alpha_bar: np.ndarray, images: np.ndarray, random_denoiser, name: str
) -> None:
    for bad in ((images + 1) * 127.5, np.full_like(images, np.nan), images[0]):
        with pytest.raises(ValueError, match=r"^x: "):
            ATTACKS[name](bad, random_denoiser, alpha_bar)


@pytest.mark.long
def test_scores_do_not_depend_on_batches_or_on_the_other_records(
    alpha_bar: np.ndarray, images: np.ndarray, random_denoiser, overfitted
) -> None:
    whole = run_all(images, random_denoiser, alpha_bar)
    for name, scores in run_all(images[2:4], random_denoiser, alpha_bar).items():
        np.testing.assert_allclose(scores, whole[name][2:4], rtol=1e-6, err_msg=name)
        assert scores.dtype == np.float64
        assert scores.shape == (2,)
    small = secmi.score(
        images, eps=random_denoiser, alpha_bar=alpha_bar, t=20, interval=10, batch_size=3
    )
    np.testing.assert_allclose(small, whole["secmi"], rtol=1e-6)
    with pytest.raises(ValueError, match="batch_size"):
        sima.score(images, eps=random_denoiser, t=20, batch_size=0)


@pytest.mark.parametrize(
    ("name", "queries"),
    [("denoising_loss", 1), ("secmi", 4), ("pia", 2), ("sima", 1), ("rediffuse", 2)],
)
def test_each_attack_costs_the_queries_it_says(
    alpha_bar: np.ndarray, images: np.ndarray, random_denoiser, name: str, queries: int
) -> None:
    ATTACKS[name](images, random_denoiser, alpha_bar)
    assert sum(count for count, _ in random_denoiser.calls) == queries * len(images)

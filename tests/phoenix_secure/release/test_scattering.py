"""Scattering features: one image's bits are its own, and they see what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.release import scattering
from phoenix_secure.release.scattering import Scattering


def drawn(seed: int, num: int, channels: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, channels, side, side), dtype=np.uint8)


@given(
    seed=st.integers(0, 2**32),
    form=st.sampled_from([(1, 8), (1, 14), (3, 9), (1, 64)]),
    num=st.integers(2, 70),
)
def test_the_bits_of_an_image_do_not_depend_on_its_company(
    seed: int, form: tuple[int, int], num: int
) -> None:
    features = Scattering(channels=form[0], image_size=form[1])
    images = drawn(seed, num, *form)
    index = seed % num
    together = features(images)
    assert np.array_equal(together[index], features(images[index : index + 1])[0])
    assert np.array_equal(np.delete(together, index, 0), features(np.delete(images, index, 0)))
    assert together.shape == (num, features.size)
    assert np.linalg.norm(together, axis=1).max() < 1 + 1e-9


def test_a_black_picture_has_no_features() -> None:
    features = Scattering(channels=1, image_size=8)
    assert not features(np.zeros((1, 1, 8, 8), np.uint8)).any()


def test_other_forms_are_refused() -> None:
    features = Scattering(channels=1, image_size=8)
    for wrong in (drawn(0, 2, 1, 9), drawn(0, 2, 3, 8), drawn(0, 2, 1, 8).astype(np.float32)):
        with pytest.raises(ValueError, match="expected uint8 images"):
            features(wrong)


def test_first_maps_are_moduli_of_wavelets_that_a_second_library_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the scaling at the end, whose parts are one line each."""
    side = 12
    features = Scattering(channels=1, image_size=side)
    image = drawn(1, 1, 1, side)
    pixels = image[0, 0].astype(np.float64)
    expected = []
    for filters in (features._fine.numpy(), features._coarse.numpy()):
        parts = [correlate(pixels, each.astype(np.float64), mode="nearest") for each in filters]
        moduli = np.hypot(np.array(parts[:8]), np.array(parts[8:]))
        low = features._low4.numpy().astype(np.float64)
        for modulus in moduli:
            padded = np.pad(np.rint(modulus * 4) / 4, 2, mode="edge")
            cells = [
                (padded[y : y + 8, x : x + 8] * low).sum()
                for y in range(0, side, 4)
                for x in range(0, side, 4)
            ]
            expected.append(cells)
    seen = []

    def keep(groups):
        seen.append(groups.numpy().copy())
        return groups

    monkeypatch.setattr(scattering, "_standardised", keep)
    features(image)
    maps = seen[0][0].reshape(-1, (side // 4) ** 2)[:81]
    assert maps[1:17] == pytest.approx(np.array(expected), abs=1e-9)


def test_turned_strokes_have_turned_maps() -> None:
    """A picture turned by a right angle has the same maps, four angles on."""
    features = Scattering(channels=1, image_size=8)
    digit = load_digits().images[:1]
    assert not np.array_equal(features(digit), features(np.rot90(digit, axes=(2, 3)).copy()))
    fine = features._fine.numpy()
    assert np.allclose(np.rot90(fine[0]), fine[4], atol=2e-3)

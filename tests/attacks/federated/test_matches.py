from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from attacks.federated.inversion import psnr
from attacks.federated.matches import match


def images(num: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (num, 1, 3, 3))


def test_copies_of_members_are_found_and_copies_of_partners_are_not(rng) -> None:
    members, partners = images(8, rng), images(8, rng)
    own = np.eye(8, dtype=np.bool_)
    for source, is_small in ((members, True), (partners, False)):
        made = source + 0.01 * rng.standard_normal(source.shape)
        found = match(made, members=members, partners=partners, candidates=own, rng=rng)
        assert (found.p_value < 0.02) is is_small
        assert found.recovered() == ((8, 0) if is_small else (0, 8))
        assert found.p_value > 0.9 or is_small


def test_the_p_value_is_the_share_of_all_exchanges_that_match_as_well(rng) -> None:
    members, partners, made = images(5, rng), images(5, rng), images(3, rng)
    candidates = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=np.bool_)

    def advantage(swapped) -> float:
        gains = []
        for one, allowed in zip(made, candidates, strict=True):
            sides = []
            for side in (0, 1):
                sides.append(
                    max(
                        psnr(one, truth=(members if flip == side else partners)[k])
                        for k, flip in enumerate(swapped)
                        if allowed[k]
                    )
                )
            gains.append(sides[0] - sides[1])
        return float(np.mean(gains))

    every = [advantage(swapped) for swapped in product((0, 1), repeat=5)]
    exact = np.mean([value >= every[0] - 1e-12 for value in every])
    found = match(
        made,
        members=members,
        partners=partners,
        candidates=candidates,
        rng=rng,
        num_permutations=4000,
    )
    assert found.p_value == pytest.approx(exact, abs=0.03)


def test_reconstructions_of_nothing_rarely_raise_an_alarm() -> None:
    """All reconstructions share one bias, and members serve several of them."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        members, partners = images(6, rng), images(6, rng)
        made = images(4, rng) * 0.1 + images(1, rng)
        found = match(
            made,
            members=members,
            partners=partners,
            candidates=np.ones((4, 6), dtype=np.bool_),
            rng=rng,
            num_permutations=99,
        )
        alarms += found.p_value <= 0.05
    assert alarms / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    assert alarms > 0


def test_wrong_shapes_are_refused(rng) -> None:
    members, made = images(3, rng), images(2, rng)
    good = {"members": members, "partners": members, "candidates": np.ones((2, 3), np.bool_)}
    for change, words in (
        ({"partners": images(2, rng)}, "one shape"),
        ({"candidates": np.ones((3, 2), np.bool_)}, "booleans"),
        ({"candidates": np.zeros((2, 3), np.bool_)}, "has none"),
    ):
        with pytest.raises(ValueError, match=words):
            match(made, **(good | change), rng=rng)

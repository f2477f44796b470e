from __future__ import annotations

import numpy as np
import pytest

from attacks.records import check_disjoint, check_images, check_membership, check_scores, embedded


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros((3, 4, 4)), "shape"),
        (np.zeros((0, 1, 4, 4)), "at least one"),
        (np.full((2, 1, 2, 2), np.nan), "NaN"),
        (np.full((2, 1, 2, 2), np.inf), "NaN or infinity"),
        (np.full((2, 1, 2, 2), 255.0), r"\[-1, 1\]"),
        (np.full((2, 1, 2, 2), 200, dtype=np.uint8), r"x / 127.5"),
        (np.zeros((2, 1, 2, 2), dtype=complex), "real"),
        (np.array([[[["a"]]]]), "real"),
    ],
)
def test_images_of_a_wrong_kind_are_refused_by_name(bad: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=f"members: .*{says}"):
        check_images(bad, name="members")


def test_images_of_another_shape_are_refused() -> None:
    like = np.zeros((1, 1, 4, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="resize"):
        check_images(np.zeros((1, 1, 5, 4)), name="x", like=like)


def test_images_come_back_as_contiguous_float32() -> None:
    x = check_images(np.zeros((2, 3, 4, 5)).transpose(0, 1, 3, 2), name="x")
    assert x.dtype == np.float32
    assert x.flags.c_contiguous


def test_an_overlap_is_counted_and_negative_zero_is_zero(rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, (5, 1, 2, 2)).astype(np.float32)
    x[0] = 0.0
    y = rng.uniform(-1, 1, (4, 1, 2, 2)).astype(np.float32)
    check_disjoint(x, y, names=("members", "non-members"))
    y[1], y[2] = x[3], -x[0]
    with pytest.raises(ValueError, match="members and non-members share 2 record"):
        check_disjoint(x, y, names=("members", "non-members"))


@pytest.mark.parametrize("bad", [[], [[1.0]], [1.0, np.nan], [np.inf]])
def test_scores_must_be_a_finite_vector(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="scores"):
        check_scores(bad)


@pytest.mark.parametrize(
    "bad", [[True, True], [False, False], [True, False, True], [1, 0], [[True, False]]]
)
def test_membership_must_be_booleans_of_both_kinds(bad: list[bool]) -> None:
    with pytest.raises(ValueError, match="membership"):
        check_membership(bad, num_records=2)


def test_an_embedding_that_loses_records_is_refused() -> None:
    x = np.zeros((3, 1, 2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match="embed returned shape"):
        embedded(x, embed=lambda images: images[:2].reshape(2, -1), name="x")
    with pytest.raises(ValueError, match="NaN"):
        embedded(x, embed=lambda images: np.full((3, 2), np.nan), name="x")

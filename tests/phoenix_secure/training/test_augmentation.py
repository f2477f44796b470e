"""Random copies: shape, reach, mirrored only when asked."""

from __future__ import annotations

import pytest
import torch

from phoenix_secure.privacy.randomness import SeededRandomness
from phoenix_secure.training.augmentation import augmented_rows


def test_single_copy_is_the_image_itself() -> None:
    x0 = torch.arange(2 * 28 * 28.0).view(2, 1, 28, 28)
    rows = augmented_rows(x0, copies=1, horizontal_flip=False, draws=SeededRandomness(0))
    assert torch.equal(rows[:, 0], x0)


def test_copies_are_the_image_moved_by_at_most_a_fourteenth() -> None:
    x0 = torch.arange(3 * 28 * 28.0).view(3, 1, 28, 28)
    draws = SeededRandomness(0)
    rows = augmented_rows(x0, copies=8, horizontal_flip=False, draws=draws)
    assert rows.shape == (3, 8, 1, 28, 28)
    assert torch.equal(rows[:, 0], x0)
    moved = set()
    for image, copies in zip(x0, rows[:, 1:], strict=True):
        for copy in copies:
            # Away from the border a shift adds a constant, the value being the pixel's number.
            difference = (copy - image)[0, 3:-3, 3:-3]
            assert difference.unique().numel() == 1
            down = round(float(difference[0, 0]) / 28)
            assert abs(down) <= 2
            moved.add(float(difference[0, 0]))
    assert len(moved) > 5


def test_mirroring_happens_about_half_of_the_time_and_only_when_asked() -> None:
    x0 = torch.arange(4.0).view(1, 1, 1, 4).repeat(500, 1, 4, 1)
    draws = SeededRandomness(0)
    rows = augmented_rows(x0, copies=2, horizontal_flip=True, draws=draws)
    share = (rows[..., 0, 0] == 3).float().mean()
    assert 0.45 < share < 0.55
    assert torch.equal(augmented_rows(x0, copies=2, horizontal_flip=False, draws=draws)[:, 1], x0)


def test_no_copies_are_refused() -> None:
    with pytest.raises(ValueError, match="copies >= 1"):
        augmented_rows(
            torch.zeros(1, 1, 8, 8), copies=0, horizontal_flip=False, draws=SeededRandomness(0)
        )

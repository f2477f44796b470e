"""A person moves a clipped sum by one clip norm, however many images she has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from phoenix_secure.privacy.chunks import ImageRows
from phoenix_secure.privacy.integer_grid import IntegerGrid
from phoenix_secure.privacy.per_image import Gradients, add_clipped, make_gradients
from phoenix_secure.privacy.person_means import PersonMeans
from phoenix_secure.privacy.sample_gradients import Instantiated
from privacy_networks import clipped_sum, network_of, one_image_loop, rows_of

COUNTS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


def means_in_chunks(
    vectors: torch.Tensor, counts: list[int], *, size: int, padded_to: int
) -> torch.Tensor:
    """The means of all persons (P, d), from chunks of ``size`` images that are filled up."""
    persons, found = PersonMeans(counts), []
    for start in range(0, len(vectors), size):
        part = vectors[start : start + size]
        blank = torch.full((padded_to - len(part), vectors.shape[1]), torch.nan)
        means, num = persons.take({"w": torch.cat([part, blank])}, len(part))
        assert len(means["w"]) == padded_to
        found.append(means["w"][:num])
    return torch.cat(found)


@given(counts=COUNTS, size=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_means_have_the_same_bits_wherever_chunks_end(
    counts: list[int], size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(sum(counts), 5, generator=generator)
    found = means_in_chunks(vectors, counts, size=size, padded_to=size + 2)
    for person, own in zip(found, torch.split(vectors, counts), strict=True):
        alone = own[0].clone()
        for vector in own[1:]:
            alone = alone + vector
        assert torch.equal(person, alone / len(own))


def test_what_is_no_person_or_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        PersonMeans([2, 0])
    with pytest.raises(ValueError, match="at most 2 images"):
        PersonMeans([2]).take({"w": torch.zeros(3, 1)}, 3)


class Neighbours:
    """Clipped sums of one set of persons with and without the first of them."""

    def __init__(self, counts: list[int], *, scale: float, seed: int, broken: float | None) -> None:
        generator = torch.Generator().manual_seed(seed)
        # Images of one person resemble each other: the worst case for clipping image by image.
        centres = torch.randn(len(counts), 6, generator=generator)
        own = [
            c + 0.1 * torch.randn(n, 6, generator=generator)
            for c, n in zip(centres, counts, strict=True)
        ]
        self.counts, self.vectors = counts, [each * scale for each in own]
        if broken is not None:
            self.vectors[0][0, 2] = broken

    def clipped(self, *, first: int, clip_norm: float, by_person: bool) -> torch.Tensor:
        parameter = nn.Parameter(torch.zeros(6))
        parameter.summed_grad = None  # type: ignore[attr-defined]
        vectors, counts = self.vectors[first:], self.counts[first:]
        samples, num = {"w": torch.cat([*vectors, torch.zeros(2, 6)])}, sum(counts)
        if by_person and counts:
            samples, num = PersonMeans(counts).take(samples, num)  # type: ignore[assignment]
        wrapped = {"w": Instantiated(samples["w"])}
        add_clipped({"w": parameter}, wrapped, clip_norm=clip_norm, num_images=num)
        found: torch.Tensor = parameter.summed_grad  # type: ignore[attr-defined]
        return found

    def moved(self, *, clip_norm: float, by_person: bool) -> float:
        with_her, without = (
            self.clipped(first=first, clip_norm=clip_norm, by_person=by_person) for first in (0, 1)
        )
        return float((with_her - without).norm())


@given(
    counts=COUNTS,
    scale=st.floats(1e-15, 1e15),
    clip_norm=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**31),
    broken=st.sampled_from([None, float("nan"), float("inf")]),
)
def test_all_images_of_a_person_move_the_sum_by_at_most_the_clip_norm(
    counts: list[int], scale: float, clip_norm: float, seed: int, broken: float | None
) -> None:
    neighbours = Neighbours(counts, scale=scale, seed=seed, broken=broken)
    moved = neighbours.moved(clip_norm=clip_norm, by_person=True)
    assert moved <= clip_norm * (1 + 1e-5)
    if broken is not None:  # she adds nothing, and takes nobody with her
        assert moved <= len(counts) ** 2 * 2.0**-53 * clip_norm


def test_clipping_image_by_image_would_break_the_bound() -> None:
    """The must-fail case of the property above: the same search finds it at once."""
    neighbours = Neighbours([7, 2, 1], scale=100.0, seed=0, broken=None)
    assert neighbours.moved(clip_norm=1.0, by_person=False) > 6
    assert neighbours.moved(clip_norm=1.0, by_person=True) <= 1


@pytest.mark.parametrize("physical_batch", [2, 16])
def test_the_clipped_sum_of_a_network_equals_one_image_at_a_time(physical_batch: int) -> None:
    network, counts = network_of("tiny", conditional=True), [3, 1, 2]
    rows = rows_of(network, num_images=6, num_rows=2, conditional=True)
    each = one_image_loop(network, rows)
    persons = [each[:3], each[3:4], each[4:]]
    means = [
        {name: torch.stack([g[name] for g in own]).mean(0) for name in own[0]} for own in persons
    ]
    norms = [sum(float((v**2).sum()) for v in g.values()) ** 0.5 for g in means]
    clip_norm = sorted(norms)[1]
    gradients = make_gradients("layers", network, physical_batch=physical_batch)
    losses = gradients.accumulate(rows, clip_norm=clip_norm, persons=PersonMeans(counts))
    assert losses.shape == (6,)
    expected = clipped_sum(means, clip_norm)
    scale = max(float(value.abs().max()) for value in expected.values())
    for name, parameter in network.named_parameters():
        assert float((parameter.summed_grad - expected[name]).abs().max()) < 1e-4 * scale


class FixedGradients(Gradients):
    """Gradients that are given, for one parameter."""

    def __init__(self, vectors: torch.Tensor, *, sizes: tuple[int, ...]) -> None:
        network = nn.Linear(vectors.shape[1], 1, bias=False)
        super().__init__(
            network,
            lambda rows: (
                {"weight": Instantiated(rows.inputs.flatten(1)[:, None])},
                torch.zeros(len(rows.inputs)),
            ),
            sizes=sizes,
        )
        self.rows = rows_with(vectors)


def rows_with(vectors: torch.Tensor) -> ImageRows:
    one = torch.zeros(len(vectors), 1)
    return ImageRows(
        inputs=vectors[:, None, None, None],
        times=one,
        target=vectors[:, None, None, None],
        weight=one,
        labels=None,
    )


@given(
    counts=COUNTS, scale=st.floats(1e-6, 1e6), seed=st.integers(0, 2**31), size=st.integers(1, 5)
)
def test_all_images_of_a_person_move_whole_numbers_by_their_exact_bound(
    counts: list[int], scale: float, seed: int, size: int
) -> None:
    grid = IntegerGrid(steps=1 << 12, limit=1 << 40)
    neighbours = Neighbours(counts, scale=scale, seed=seed, broken=None)

    def words(first: int) -> np.ndarray:
        total = np.zeros(6, np.int64)
        own = neighbours.vectors[first:]
        if own:
            gradients = FixedGradients(torch.cat(own), sizes=(size,))
            gradients.add_rounded(
                gradients.rows,
                clip_norm=0.5,
                grid=grid,
                total=total,
                persons=PersonMeans(counts[first:]),
            )
        return total

    moved = words(0) - words(1)
    assert int(np.square(moved).sum()) <= grid.squared_sensitivity
    if scale > 10:  # she is clipped, and counts in full
        assert int(np.square(moved).sum()) > 0.98 * grid.squared_sensitivity

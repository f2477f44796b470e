"""Sizes in which images are differentiated, so that no image's gradient tells who came along.

Libraries choose a kernel by the shape of a batch, and two kernels add in different orders: with
oneDNN and MKL an image gives other bits in a chunk of 15 than in one of 16. A server can craft
weights that turn those bits into whole gradients, so that one image more would move the gradients
of *all* images of its chunk (measured: many clip norms, where one is accounted). Chunks are
therefore filled with blank images up to a few sizes, in which every image has equal bits at every
place; :func:`sizes_of_equal_bits` looks whether that is so on this machine with this network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from phoenix_secure.privacy.sample_gradients import SampleGradient

__all__ = [
    "FindGradients",
    "ImageRows",
    "chunk_counts",
    "chunk_sizes",
    "padded",
    "sizes_of_equal_bits",
]

# Smallest size from which oneDNN and MKL were seen to keep to one kernel.
_LEAST = 16
# Blank images cost as much as others: small steps, yet few sizes to look at.
_STEP, _MOST_SIZES = 4, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRows:
    """A regression problem for each row of each image: ``weight * mean((network - target)^2)``.

    Shape:      n images of R rows: inputs and target (n, R, C, H, W), times (n, R), weight (n, R),
                labels (n, R) or None.
    """

    inputs: torch.Tensor
    times: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor | None

    @property
    def num_images(self) -> int:
        return len(self.inputs)

    @property
    def num_rows(self) -> int:
        """R, rows of one image."""
        return self.inputs.shape[1]

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> ImageRows:
        """The rows with every tensor changed alike."""
        return ImageRows(
            inputs=change(self.inputs),
            times=change(self.times),
            target=change(self.target),
            weight=change(self.weight),
            labels=None if self.labels is None else change(self.labels),
        )


# Gradients of single images, by parameter, and the images' losses (n,).
FindGradients = Callable[[ImageRows], tuple[Mapping[str, SampleGradient], torch.Tensor]]


def chunk_sizes(physical_batch: int) -> tuple[int, ...]:
    """Sizes, ascending, that chunks of at most ``physical_batch`` images are filled up to.

    >>> chunk_sizes(32), chunk_sizes(4)
    ((16, 20, 24, 28, 32), (4,))
    """
    if physical_batch < 1:
        raise ValueError(f"expected physical_batch >= 1, got {physical_batch}")
    step = _STEP
    while physical_batch > step * _MOST_SIZES:
        step *= 2
    multiples = range(step, physical_batch, step)
    return (*(size for size in multiples if size >= _LEAST), physical_batch)


def chunk_counts(num_images: int, sizes: tuple[int, ...]) -> list[int]:
    """Numbers of images in the chunks of ``num_images``, of which the last two share the rest.

    Guarantee:  filled up to ``sizes``, no other choice of two last chunks needs fewer blank images.

    >>> chunk_counts(70, (16, 20, 24, 28, 32)), chunk_counts(0, (16, 32))
    ([32, 20, 18], [])
    """
    counts, largest = [], sizes[-1]
    while num_images > 2 * largest:
        counts.append(largest)
        num_images -= largest
    if num_images > largest:
        pairs = [(a, b) for a in sizes for b in sizes if b <= a and a + b >= num_images]
        first, _ = min(pairs, key=lambda pair: (sum(pair), -pair[0]))
        counts.append(first)
        num_images -= first
    return [*counts, num_images] if num_images else counts


def padded(rows: ImageRows, sizes: tuple[int, ...]) -> ImageRows:
    """``rows`` with blank images of weight zero behind, up to the next of ``sizes``.

    Raises:     ValueError for more images than the largest size.
    """
    size = next((size for size in sizes if size >= rows.num_images), None)
    if size is None:
        raise ValueError(f"expected at most {sizes[-1]} images, got {rows.num_images}")
    num_blank = size - rows.num_images
    return rows.each(lambda t: torch.cat([t, t.new_zeros((num_blank, *t.shape[1:]))]))


def sizes_of_equal_bits(
    gradients: FindGradients, rows: ImageRows, sizes: tuple[int, ...]
) -> tuple[int, ...]:
    """The members of ``sizes`` in which an image's gradient has the same bits as in the largest.

    A network that mixes images (by their mean or maximum, say) shows here, too.

    ``rows`` are any images, as many as the largest size; the network's weights should be random
    numbers. Kernels are chosen by shapes and never by values, so that what holds for these holds
    for others. Each size is tried with the images in other places, the largest with other
    companions.

    Returns:    the largest size alone where no other agrees with it; (1,), which has neither
                companions nor places, where even the largest depends on order or company.
    """
    largest = sizes[-1]
    kept = min(sizes)
    expected = {name: s.instantiated()[:kept].clone() for name, s in gradients(rows)[0].items()}

    def agrees(size: int) -> bool:
        # The images looked at take the last places, where a remainder's kernel is, and the first.
        order = torch.arange(size, device=rows.inputs.device).roll(size - kept + 1)
        found = gradients(rows.each(lambda t: t[order]))[0]
        place = order.argsort()[:kept]
        return all(
            torch.equal(found[name].instantiated()[place], value)
            for name, value in expected.items()
        )

    def agrees_in_other_company() -> bool:
        order = torch.ones(largest, dtype=torch.int64, device=rows.inputs.device)
        order[0] = 0  # the first image, beside copies of the second
        found = gradients(rows.each(lambda t: t[order]))[0]
        return all(
            torch.equal(found[name].instantiated()[0], value[0]) for name, value in expected.items()
        )

    if not agrees(largest) or not agrees_in_other_company():
        return (1,)
    return (*(size for size in sizes[:-1] if agrees(size)), largest)

"""One picture of many images, to look a data set in the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from phoenix_secure.data.images import ImageSet
from phoenix_secure.files import replace_file

__all__ = ["contact_sheet", "save_contact_sheet"]

_MIN_CELL = 48  # pixels; smaller images are enlarged by a whole factor
_MAX_ROWS = 20


def contact_sheet(image_set: ImageSet, *, columns: int) -> npt.NDArray[np.uint8]:
    """A grid with one row per class (the first 20), or ten rows when there are no labels.

    Shape:      (height, width, 3) uint8, white between the images.
    Guarantee:  images appear in the order of the set, so the sheet is the same every time; pixels
                are repeated, never smoothed.
    Raises:     ValueError for columns < 1.
    """
    if columns < 1:
        raise ValueError(f"expected columns >= 1, got {columns}")
    labels = image_set.labels
    if labels is None:
        everything = np.arange(min(image_set.num_images, 10 * columns))
        rows = np.array_split(everything, range(columns, everything.size, columns))
    else:
        present = np.unique(labels)[:_MAX_ROWS]
        rows = [np.flatnonzero(labels == label)[:columns] for label in present]
    size = image_set.image_size
    factor = max(1, -(-_MIN_CELL // size))
    cell = size * factor + 2
    sheet = np.full((len(rows) * cell + 2, columns * cell + 2, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            picture = image_set.images[index].transpose(1, 2, 0)
            large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
            top, left = y * cell + 2, x * cell + 2
            sheet[top : top + size * factor, left : left + size * factor] = large
    return sheet


def save_contact_sheet(image_set: ImageSet, *, path: Path, columns: int = 12) -> None:
    """Write ``contact_sheet`` as a PNG in one step.

    Raises:     StorageError when ``path`` cannot be written.
    """
    picture = Image.fromarray(contact_sheet(image_set, columns=columns))
    replace_file(path, lambda temporary: picture.save(temporary, format="PNG"))

"""The persons of a site: which of its images are of one and the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from phoenix_secure.errors import DataError

__all__ = ["Persons", "persons_of"]


class Persons:
    """Indices of images, person by person, in the order of the persons' numbers.

    A person's images keep the order that they have at the site: it follows from no one else's.
    """

    def __init__(self, groups: np.ndarray) -> None:
        """groups (n,) int64: equal numbers are one person."""
        self._order = np.argsort(groups, kind="stable")
        changes = np.flatnonzero(np.diff(groups[self._order])) + 1
        ends = [*changes.tolist(), *([len(groups)] if len(groups) else [])]
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, person: int) -> np.ndarray:
        """The images of one of them (m,), m >= 1."""
        if not 0 <= person < len(self):
            raise IndexError(person)
        start = 0 if person == 0 else self._ends[person - 1]
        return self._order[start : self._ends[person]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[person] for person in range(len(self)))


def persons_of(groups: np.ndarray | None, *, num_images: int) -> Persons:
    """The persons of a site's images; none where there is no image.

    Raises:     DataError where nobody said whose the images are.
    """
    if groups is not None:
        return Persons(groups)
    if num_images:
        raise DataError(
            "privacy.unit = group protects persons, and these images do not say whose they are: "
            "set data.group, or privacy.unit = record to protect single images"
        )
    return Persons(np.empty(0, np.int64))

"""The inspection of a data set while it is read, shared by all sources."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.data.groups import GroupRule
from phoenix_secure.data.images import ImageSet
from phoenix_secure.data.inventory import Inventory, grouped
from phoenix_secure.data.labels import require_writable
from phoenix_secure.data.nifti import Slices
from phoenix_secure.data.percentiles import Percentiles
from phoenix_secure.data.scale import Window, shown_window
from phoenix_secure.data.stored_image import StoredImage
from phoenix_secure.errors import DataError

__all__ = ["SYSTEM_FILE", "WHOLE_SET", "Inspection", "ReadingRules"]

_log = logging.getLogger(__name__)

SYSTEM_FILE = "hidden, or of the operating system"
WHOLE_SET = "whole set"
_DARK = 31  # of 255: what five bits hold


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingRules:
    """What the user declares about a set, and how much an image may decide.

    part        which part of a set is read: train, test, validation, or all; None leaves it to the
                names, and refuses where they do not tell
    window      (lo, hi): stored values that become 0 and 255; what lies outside is clipped; or
                percentiles over the set
    slices      which slices of a volume are images
    group       where the set says whose image each is
    strict      refuse to pass over anything
    each_alone  no image decides how another is read, as differential privacy needs it
    cache       the folder in which decoded pictures are kept for the next start; None keeps none
    """

    part: str | None = None
    window: Window | Percentiles | None = None
    slices: Slices | None = None
    group: GroupRule | None = None
    strict: bool = False
    each_alone: bool = False
    cache: Path | None = None


class Inspection:
    """Takes note of everything that one reading does not read, and of what it assumes."""

    def __init__(self, source: str, rules: ReadingRules) -> None:
        self.source = source
        self.rules = rules
        self._passed_over: list[tuple[str, str]] = []
        self._not_chosen: list[tuple[str, str]] = []
        self._notes: dict[str, list[str]] = {}
        self._bits = 1
        self._window = None if isinstance(rules.window, Percentiles) else rules.window
        self._spacings: list[tuple[float, float]] = []
        self._own_windows: set[tuple[float, float]] = set()

    def pass_over(self, name: str, *, why: str) -> None:
        """Something that nobody asked to leave out is not read."""
        self._passed_over.append((why, name))

    def leave_out(self, name: str, error: object) -> None:
        """One image that cannot be read, where no image may stop the others: the log names it."""
        _log.warning("left out: %s", error)
        self._passed_over.append(("left out", name))

    def not_chosen(self, name: str, *, why: str) -> None:
        """Something is not read because the settings chose otherwise."""
        self._not_chosen.append((why, name))

    def note(self, text: str, name: str = "") -> None:
        """Something the user should know; equal texts are told once, with their number."""
        self._notes.setdefault(text, []).append(name)

    def saw_bits(self, bits: int) -> None:
        """An image was stored with so many bits per channel."""
        self._bits = max(self._bits, bits)

    def saw_image(self, image: StoredImage) -> None:
        """Facts of one image of a medical file."""
        self.saw_bits(image.bits)
        if image.spacing_mm is not None:
            self._spacings.append(image.spacing_mm)
        if self._window is None and image.window is not None:
            self._own_windows.add((image.window.low, image.window.high))

    def set_window(self, window: Window) -> None:
        """The window that the percentiles of the rules came to."""
        self._window = window

    @property
    def window(self) -> Window | None:
        """The window that images are read with."""
        return self._window

    @property
    def is_medical(self) -> bool:
        """Whether something was seen that only medical files have."""
        return bool(self._spacings or self._own_windows)

    @property
    def scale(self) -> str:
        """How pixels are read, in words."""
        if self._window is not None:
            by = f" ({self.rules.window})" if isinstance(self.rules.window, Percentiles) else ""
            return f"values in the window {shown_window(self._window)}{by}"
        if self._own_windows:
            return f"values in the window of each file ({len(self._own_windows)} different)"
        return "bytes"

    @property
    def bits(self) -> int:
        """Bits per channel of the deepest image so far."""
        return self._bits

    @property
    def num_told(self) -> int:
        """How much was passed over or noted so far."""
        return len(self._passed_over) + sum(map(len, self._notes.values()))

    def require_complete(self) -> None:
        """Under ``strict``, refuse what was passed over so far.

        Raises:     DataError that counts it and names the first.
        """
        if self.rules.strict and self._passed_over:
            reasons = "; ".join(map(str, grouped(self._passed_over)))
            raise DataError(
                f"{self.source}: strict, and not everything can be read: {reasons}; "
                "move these away, or leave strict out"
            )

    def finish(
        self, image_set: ImageSet, *, labels_from: str, scale: str, part: str = WHOLE_SET
    ) -> ImageSet:
        """``image_set`` with its inventory; the log tells what was passed over.

        Raises:     DataError under ``strict``, and for names of classes that cannot be shown.
        """
        self.require_complete()
        require_writable(image_set.class_names, where=self.source)
        if len(self._own_windows) > 1:
            self.note("files have windows of their own that differ: data.window reads all alike")
        high, stated = int(image_set.images.max()), self._window or self._own_windows
        if high <= _DARK and not stated and not self.rules.each_alone:
            self.note(
                f"all images are nearly black (no pixel above {high} of 255), as masks or values "
                "of a few bits are: data.window says which values become black and white"
            )
        labels = image_set.labels
        if labels is not None and image_set.class_names[0] == "0" and labels.min() > 0:
            self.note("no image is of class 0: do the labels count from 1?")
        inventory = Inventory(
            source=self.source,
            num_read=image_set.num_images,
            passed_over=grouped(self._passed_over),
            not_chosen=grouped(self._not_chosen),
            part=part,
            labels_from=labels_from,
            class_names=image_set.class_names,
            scale=scale,
            bits_per_channel=self._bits,
            channels=image_set.channels,
            image_size=image_set.image_size,
            window=self._window,
            spacing_mm=_range(self._spacings),
            groups_from="none" if self.rules.group is None else str(self.rules.group),
            num_groups=image_set.num_groups,
            notes=tuple(
                text if names == [""] else f"{text}: {len(names):,} ({names[0]}, ...)"
                for text, names in self._notes.items()
            ),
        )
        if any(why != SYSTEM_FILE for why, _ in self._passed_over):
            _log.warning("%s: %s", self.source, inventory)
        for text in inventory.notes:
            _log.warning("%s: %s", self.source, text)
        return image_set.with_inventory(inventory)


def _range(spacings: list[tuple[float, float]]) -> tuple[float, float] | None:
    """The smallest and the largest of all distances."""
    if not spacings:
        return None
    return min(map(min, spacings)), max(map(max, spacings))

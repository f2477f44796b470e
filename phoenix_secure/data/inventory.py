"""The inventory of a data set: what was read, what was not and why, and what was assumed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix_secure.errors import DataError
from phoenix_secure.files import write_bytes

__all__ = ["Inventory", "PassedOver", "grouped", "read_window", "save_inventory"]

_NUM_NAMES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """Files, rows or arrays that were not read, for one and the same reason."""

    why: str
    count: int
    first_names: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first_names) else ""
        # A name may hold anything but must not break the line, or turn it around.
        names = (
            "".join(c if c.isprintable() else "\ufffd" for c in name) for name in self.first_names
        )
        shown = f" ({', '.join(names)}{more})" if self.first_names else ""
        return f"{self.count:,} {self.why}{shown}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """What one reading of a data set found.

    Units:      bits_per_channel of the deepest image as it was stored; num_read counts images.
    Guarantee:  each file below a folder, each row and each array is read, in ``passed_over``, in
                ``not_chosen`` (another part of the set, or beyond ``max_images``), or named in an
                error.
    """

    source: str
    num_read: int
    passed_over: tuple[PassedOver, ...]
    not_chosen: tuple[PassedOver, ...]
    part: str  # "train", "test", "validation", "all", or "whole set" where there are no parts
    labels_from: str
    class_names: tuple[str, ...]
    scale: str
    bits_per_channel: int
    channels: int
    image_size: int
    notes: tuple[str, ...]
    window: tuple[float, float] | None = None  # that pixels were mapped by; None for bytes
    spacing_mm: tuple[float, float] | None = None  # between pixels as stored: least and most
    groups_from: str = "none"
    num_groups: int | None = None  # people; None where the set does not say whose images they are

    @property
    def num_passed_over(self) -> int:
        """How many files, rows and arrays were not read although nothing chose against them."""
        return sum(entry.count for entry in self.passed_over)

    def to_dict(self) -> dict[str, Any]:
        """The inventory for JSON."""
        return {**dataclasses.asdict(self), "num_passed_over": self.num_passed_over}

    def __str__(self) -> str:
        reasons = "; ".join(map(str, self.passed_over))
        told = f" ({reasons})" if reasons else ""
        return f"{self.num_read:,} read, {self.num_passed_over:,} passed over{told}"


def grouped(entries: Iterable[tuple[str, str]]) -> tuple[PassedOver, ...]:
    """Pairs of (why, name) by reason, in the order in which the reasons first occur."""
    names: dict[str, list[str]] = {}
    for why, name in entries:
        names.setdefault(why, []).append(name)
    return tuple(
        PassedOver(why=why, count=len(found), first_names=tuple(found[:_NUM_NAMES]))
        for why, found in names.items()
    )


def read_window(path: Path) -> tuple[float, float] | None:
    """The window that a kept inventory says; None where it says none.

    Raises:     DataError for a file that is no inventory.
    """
    try:
        window = json.loads(path.read_text(encoding="utf-8"))["window"]
        return None if window is None else (float(window[0]), float(window[1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} is no inventory of a run: restore it, or delete it") from error


def _without_names(entries: tuple[PassedOver, ...]) -> tuple[PassedOver, ...]:
    return tuple(dataclasses.replace(entry, first_names=()) for entry in entries)


def save_inventory(inventory: Inventory, path: Path) -> None:
    """Write the inventory as JSON, in one step, readable by its owner alone: it names files.

    Where the set says whose its images are, no file is named: folders may be called after people.
    """
    if inventory.num_groups is not None:
        inventory = dataclasses.replace(
            inventory,
            passed_over=_without_names(inventory.passed_over),
            not_chosen=_without_names(inventory.not_chosen),
            notes=tuple(note.partition(": ")[0] for note in inventory.notes),
        )
    text = json.dumps(inventory.to_dict(), indent=2, sort_keys=True) + "\n"
    write_bytes(path, text.encode(), mode=0o600)

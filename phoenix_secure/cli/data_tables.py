"""The tables and JSON shapes of ``phoenix-secure data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from phoenix_secure.cli.output import console
from phoenix_secure.data.cache import cached_path
from phoenix_secure.data.catalogue import CATALOGUE, DatasetFacts

if TYPE_CHECKING:
    from phoenix_secure.data.heterogeneity import Heterogeneity
    from phoenix_secure.data.images import ImageSet
    from phoenix_secure.data.inventory import Inventory
    from phoenix_secure.data.summary import ImageSummary

__all__ = [
    "availability",
    "facts_as_dict",
    "print_catalogue",
    "print_heterogeneity",
    "print_summary",
    "set_as_dict",
]


def print_catalogue(folder: Path) -> None:
    """Prints the output of `data list` as text."""
    table = Table("name", "images", "pixels", "here?", "what it is, and its licence")
    for column in table.columns[:4]:
        column.no_wrap = True
    for facts in CATALOGUE.values():
        size = f"{facts.image_size} x {facts.image_size} x {facts.channels}"
        table.add_row(
            facts.name,
            f"{facts.num_images:,}" if facts.num_images else "any",
            size if facts.image_size else "any",
            availability(facts, folder),
            Text.assemble(f"{facts.title}\n", (facts.licence, "dim")),
        )
    console.print(table)


def print_summary(image_set: ImageSet, summary: ImageSummary) -> None:
    """Prints the output of `data show` as text."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path must come out whole
    # Folder and class names are the user's: plain text, never markup.
    size = f"{image_set.image_size} x {image_set.image_size} x {image_set.channels}"
    table.add_row("name", image_set.name)
    table.add_row("images", f"{image_set.num_images:,} of {size}")
    for class_name, count in zip(image_set.class_names, summary.images_per_class, strict=True):
        table.add_row("", f"{count:>7,}  {class_name}")
    if image_set.inventory is not None:
        _add_inventory(table, image_set.inventory)
    table.add_row("pixel mean", "  ".join(f"{value:.5f}" for value in summary.mean))
    table.add_row("pixel std", "  ".join(f"{value:.5f}" for value in summary.std))
    near = f"{summary.num_duplicates:,} exact, {summary.num_near_duplicates:,} near"
    if summary.num_across_groups is not None:
        near += f"; {summary.num_across_groups:,} of them of two people"
    table.add_row("duplicates", near)
    table.add_row("source", image_set.source)
    table.add_row("licence", image_set.licence)
    table.add_row("digest", summary.digest)
    console.print(table)


def _add_inventory(table: Table, inventory: Inventory) -> None:
    table.add_row("read", f"{inventory.num_read:,}, {inventory.num_passed_over:,} passed over")
    for entry in inventory.passed_over:
        table.add_row("", f"passed over: {entry}")
    for entry in inventory.not_chosen:
        table.add_row("", f"not chosen: {entry}")
    table.add_row("part", inventory.part)
    table.add_row("labels from", inventory.labels_from)
    if inventory.num_groups is not None:
        table.add_row("people", f"{inventory.num_groups:,}, from {inventory.groups_from}")
    if inventory.spacing_mm is not None:
        least, most = inventory.spacing_mm
        table.add_row("pixel spacing", f"{least:g} to {most:g} mm as stored")
    table.add_row("scale", f"{inventory.scale}; {inventory.bits_per_channel} bits as stored")
    for note in inventory.notes:
        table.add_row("note", note)


def print_heterogeneity(measured: Heterogeneity, *, names: list[str]) -> None:
    """Prints the output of `data partition` as text."""
    table = Table("site", "images", "effective classes")
    effective = measured.effective_classes_per_site
    for k, (name, count) in enumerate(zip(names, measured.images_per_site, strict=True)):
        table.add_row(name, f"{count:,}", f"{effective[k]:.2f}" if effective else "no labels")
    console.print(table)
    if measured.mean_pairwise_jensen_shannon is not None:
        console.print(
            f"mean pairwise Jensen-Shannon distance (base 2)  "
            f"{measured.mean_pairwise_jensen_shannon:.3f}"
        )
        console.print(
            f"mean total variation to all sites together      {measured.mean_total_variation:.3f}"
        )
    console.print(f"Gini coefficient of the sizes                   {measured.quantity_gini:.3f}")
    console.print(f"largest site / smallest site                    {measured.quantity_ratio:.2f}")


def availability(facts: DatasetFacts, folder: Path) -> str:
    """cached, not fetched, bundled with a package, or brought by the user."""
    if facts.is_fetched:
        return "cached" if cached_path(facts.name, cache_dir=folder).is_file() else "not fetched"
    return "bundled" if facts.num_images else "yours"


def facts_as_dict(facts: DatasetFacts) -> dict[str, Any]:
    """A catalogue entry for JSON."""
    return {
        "name": facts.name,
        "title": facts.title,
        "num_images": facts.num_images,
        "num_test_images": None if facts.test is None else facts.test.num_images,
        "image_size": facts.image_size,
        "channels": facts.channels,
        "class_names": list(facts.class_names),
        "licence": facts.licence,
    }


def set_as_dict(image_set: ImageSet) -> dict[str, Any]:
    """The facts of a loaded set for JSON."""
    return {
        "name": image_set.name,
        "num_images": image_set.num_images,
        "image_size": image_set.image_size,
        "channels": image_set.channels,
        "class_names": list(image_set.class_names),
        "source": image_set.source,
        "licence": image_set.licence,
        "inventory": None if image_set.inventory is None else image_set.inventory.to_dict(),
    }

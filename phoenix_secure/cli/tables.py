"""Tables that more than one command shows."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from phoenix_secure.metrics.quality import TELLING_IMAGES

__all__ = ["quality_table"]

_COLUMNS = ("precision", "recall", "density", "coverage")


def quality_table(quality: dict[str, Any]) -> Table:
    """Generated images beside held-out real ones and noise, so that a reader can compare."""
    title = f"quality against real reference images ({quality['extractor']})"
    # Narrow enough for a terminal of 80 columns.
    table = Table(
        title=title,
        caption=_counted(quality["num_images"]),
        box=box.SIMPLE,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("images", no_wrap=True)
    # "FID" is Inception's alone; the title names the network of any other Frechet distance.
    frechet = quality["frechet_name"].split("-")[0]
    for name in ("KID", frechet, *_COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    for row, values in quality["rows"].items():
        distance = "-" if values["frechet"] is None else f"{values['frechet']:.0f}"
        kid = f"{values['kid']:.3f} ± {values['kid_std']:.3f}"
        table.add_row(row, kid, distance, *(f"{values[name]:.3f}" for name in _COLUMNS))
    return table


def _counted(num_images: int) -> str:
    counted = f"{num_images:,} images in each row"
    if num_images >= TELLING_IMAGES:
        return counted
    return f"{counted}: enough to tell a trained model from noise, not one model from another"

"""The work behind ``sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import Progress

from phoenix_secure.api import models
from phoenix_secure.cli.output import Format, console, print_json

__all__ = ["sample"]


def sample(
    path: Path,
    *,
    num_images: int,
    out: Path,
    images_dir: Path | None,
    seed: int,
    output_format: Format,
    **options: Any,
) -> None:
    """Sample with the options of ``api.models.sample``, and write."""
    is_json = output_format is Format.JSON
    with Progress(console=console, disable=is_json or not console.is_terminal) as bar:
        task = bar.add_task("sampling", total=num_images)
        samples = models.sample(
            path,
            num_images,
            seed=seed,
            progress=lambda count: bar.advance(task, count),
            **options,
        )
    samples.save(out)
    if images_dir is not None:
        samples.save_each(images_dir)
    if is_json:
        print_json({"images": num_images, "grid": str(out), "seed": seed})
    else:
        console.print(f"{num_images} images: {out}")

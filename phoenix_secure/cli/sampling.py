"""The work behind ``sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import Progress

from phoenix_secure.api import models
from phoenix_secure.cli.output import Format, console, print_json
from phoenix_secure.errors import ConfigError

__all__ = ["sample"]


def sample(
    path: Path,
    *,
    num_images: int,
    out: Path,
    images_dir: Path | None,
    export: Path | None,
    layout: str | None,
    seed: int,
    output_format: Format,
    **options: Any,
) -> None:
    """Sample with the options of ``api.models.sample``, and write."""
    if layout is not None and export is None:
        raise ConfigError("--layout is for --export: name the new folder or file")
    if export is not None and export.exists():
        raise ConfigError(f"{export} is there already: name a new one with --export")
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
    if export is not None:
        by_suffix = "npz" if export.suffix.lower() == ".npz" else "imagefolder"
        samples.export(export, layout=layout or by_suffix)
    if is_json:
        told = {} if export is None else {"export": str(export)}
        print_json({"images": num_images, "grid": str(out), "seed": seed, **told})
    else:
        console.print(f"{num_images} images: {out}" + (f", {export}" if export else ""))

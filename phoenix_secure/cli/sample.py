"""``phoenix-secure sample``: sample images from a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["sample"]


class Layout(StrEnum):
    """The layouts of ``phoenix_secure.data.export``, which start-up need not import."""

    CLASS_FOLDERS = "class-folders"
    IMAGEFOLDER = "imagefolder"
    NPZ = "npz"


def sample(
    model: Annotated[Path, typer.Argument(help="A run folder, or a diffusers DDPM/DDIM folder.")],
    num_images: Annotated[int, typer.Option("--num", min=1, help="Number of images.")] = 64,
    out: Annotated[Path, typer.Option("--out", help="PNG with all of them in a grid.")] = Path(
        "samples.png"
    ),
    images_dir: Annotated[
        Path | None, typer.Option("--images-dir", help="Also write each image as its own PNG.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Also write all images with their labels, to a new path."),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            help="Of --export: class-folders (CLASS/000000.png), imagefolder (PNGs and "
            "metadata.jsonl, as Hugging Face datasets reads them) or npz. Default: npz for a path "
            "that ends so, else imagefolder.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same images.")] = 0,
    num_steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Denoising steps; default as saved.")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance", min=0, help="Classifier-free guidance.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only this class (class-conditional models).")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Sample images and write them as a PNG grid."""
    from phoenix_secure.cli import sampling

    sampling.sample(
        model,
        num_images=num_images,
        out=out,
        images_dir=images_dir,
        export=export,
        layout=layout,
        seed=seed,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        class_name=class_name,
        device=device,
        output_format=output_format,
    )

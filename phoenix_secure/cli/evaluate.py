"""``phoenix-secure evaluate``: how good are samples, beside real images and noise?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_secure.cli.output import Format, FormatOption

__all__ = ["evaluate"]


def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A run, a diffusers model folder, or a folder of images.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            help="Real images to compare with: a run folder (its reference and held-out images), "
            "an image folder, an .npz, or a data set name. A run brings its own.",
        ),
    ] = None,
    num_images: Annotated[int, typer.Option("--num", min=100, help="Number of images.")] = 500,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for sampling and subsets.")] = 0,
    extractor: Annotated[
        str, typer.Option("--extractor", help="efficientnet-lite0 or inception.")
    ] = "efficientnet-lite0",
    inception_weights: Annotated[
        Path | None,
        typer.Option("--inception-weights", help="File inception-2015-12-05.pt."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table as JSON.")] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Compare images with real ones: KID, Frechet distance, precision, recall, density, coverage.

    Two further rows tell how to read them: real images that were held out, and noise.
    """
    from phoenix_secure.cli import evaluation

    evaluation.evaluate(
        target,
        reference=reference,
        num_images=num_images,
        seed=seed,
        extractor=extractor,
        inception_weights=inception_weights,
        device=device,
        out=out,
        output_format=output_format,
    )

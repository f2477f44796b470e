"""PNG files: a grid of images, and curves of a run."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from phoenix_secure.files import replace_file, write_bytes

__all__ = ["Encode", "grid_picture", "plain_png", "save_curves", "save_grid", "save_images"]


# What makes a PNG file of a picture; that of ``marks.marker`` says that a model made it.
Encode = Callable[[Image.Image], bytes]


def plain_png(picture: Image.Image) -> bytes:
    """A PNG file that says nothing: for real images and for curves."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def save_grid(
    images: np.ndarray, path: Path, *, encode: Encode, scale: int = 2, columns: int | None = None
) -> None:
    """Write images (N, C, H, W) uint8 as one PNG, each pixel ``scale`` wide; near-square where no
    number of columns is given."""
    write_bytes(path, encode(grid_picture(images, scale=scale, columns=columns)))


def grid_picture(images: np.ndarray, *, scale: int = 2, columns: int | None = None) -> Image.Image:
    """The picture that ``save_grid`` writes."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    _, channels, height, width = images.shape
    gap = 1
    sheet = np.full((channels, rows * (height + gap), columns * (width + gap)), 96, np.uint8)
    for position, image in enumerate(images):
        top = (position // columns) * (height + gap)
        left = (position % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    picture = _picture(sheet[:, :-gap, :-gap])
    size = (picture.width * scale, picture.height * scale)
    return picture.resize(size, Image.Resampling.NEAREST)


def save_images(images: np.ndarray, folder: Path, *, encode: Encode) -> None:
    """Write each image (N, C, H, W) uint8 to ``folder`` as ``000000.png`` and so on."""
    for number, image in enumerate(images):
        write_bytes(folder / f"{number:06d}.png", encode(_picture(image)))


def save_curves(metrics: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot loss and, where it was measured, KID over rounds, from the lines of metrics.jsonl."""
    rounds = [line["round_number"] for line in metrics]
    judged = [line for line in metrics if line.get("quality")]
    # Fixed margins: to find the tightest ones costs as much as the rest of the picture.
    figure = Figure(figsize=(9, 3.2))
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.16, top=0.97, wspace=0.2)
    left, right = figure.subplots(1, 2)
    told = [line for line in metrics if line["loss"] is not None]
    if told or not metrics:
        left.plot(
            [line["round_number"] for line in told],
            [line["loss"] for line in told],
            color="#1b6ca8",
        )
        left.set(xlabel="round", ylabel="training loss", ylim=(0, None))
    else:
        # Under differential privacy no loss leaves a site.
        left.plot(rounds, [line["update_norm"] for line in metrics], color="#1b6ca8")
        left.set(xlabel="round", ylabel="norm of the mean update", ylim=(0, None))
    if judged:
        x = [line["round_number"] for line in judged]
        for row, style in (("generated", "o-"), ("held-out real", "--"), ("noise", ":")):
            y = [line["quality"]["rows"][row]["kid"] for line in judged]
            right.plot(x, y, style, label=row)
        right.set(xlabel="round", ylabel="KID (lower is better)", yscale="symlog")
        right.legend(frameon=False)
    else:
        right.plot(rounds, [line["update_norm"] for line in metrics], color="#b3541e")
        right.set(xlabel="round", ylabel="norm of the mean update")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas = FigureCanvasAgg(figure)
    replace_file(path, lambda temporary: canvas.print_png(str(temporary)))  # type: ignore[no-untyped-call]


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))

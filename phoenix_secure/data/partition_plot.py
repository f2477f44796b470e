"""Plots the data partition: each site's images by class, with a few of them beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from phoenix_secure.data.heterogeneity import label_counts
from phoenix_secure.data.images import ImageSet
from phoenix_secure.files import replace_file

__all__ = ["save_partition_plot"]

Parts = Sequence[npt.NDArray[np.int64]]
Colour = tuple[float, float, float]

_WIDTH = 12.5  # inches, as are all lengths below
_MARGIN = 0.2
_COMPRESSION = 3  # half of the time for a tenth of the size
_MAX_ROWS = 128  # a picture of 500 rows takes 2 GB to draw, and one of 1,300 cannot be drawn
_FEW_SITES = 12  # up to here rows are tall enough for a count in every segment
_MAX_LEGEND_CLASSES = 20
_MAX_NAME = 24
_BAR = 0.74  # of a row
_INK, _MUTED, _GRID = "#1f2430", "#5c6370", "#dfe2e8"


def save_partition_plot(
    image_set: ImageSet, parts: Parts, *, path: Path, site_names: Sequence[str]
) -> None:
    """Write a PNG with one row per site: a bar stacked by class, its total, and example images.

    Of more than 128 sites the first ones are drawn, and the picture says so.
    The examples are spread over the site's images in class order, so that they show its mixture.
    The picture shows images of every site: it is for experiments on public data, and for an
    owner's own eyes; it must not leave a real federation's site.

    Raises:     ValueError unless there is one name and at least one image per site; StorageError
                when ``path`` cannot be written.
    """
    if len(site_names) != len(parts) or not parts or any(len(part) == 0 for part in parts):
        raise ValueError("expected at least one site, one name for each, and no empty site")
    num_sites, total = len(parts), sum(len(part) for part in parts)
    parts, site_names = parts[:_MAX_ROWS], site_names[:_MAX_ROWS]
    names = [name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…" for name in site_names]
    few = len(parts) <= _FEW_SITES
    row, num_examples = (0.62, 8) if few else (0.34, 12)
    num_columns = _legend_columns(image_set)
    num_legend_rows = math.ceil(image_set.num_classes / num_columns) if num_columns else 0
    head, foot, body = 0.85 + 0.22 * num_legend_rows, 0.6, row * len(parts)
    height = head + body + foot
    left = 0.35 + 0.085 * max(len(name) for name in names)
    strip = row * num_examples

    figure = Figure(figsize=(_WIDTH, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)

    def place(x: float, width: float) -> Axes:
        return figure.add_axes((x / _WIDTH, foot / height, width / _WIDTH, body / height))

    bars = place(left, _WIDTH - left - strip - 2 * _MARGIN)
    _draw_bars(bars, image_set, parts, names=names)
    if num_columns:
        _draw_legend(bars, image_set, num_columns=num_columns)
    _draw_examples(
        place(_WIDTH - strip - _MARGIN, strip), image_set, parts, num_examples=num_examples
    )
    sites = "1 site" if num_sites == 1 else f"{num_sites} sites"
    shown = "" if num_sites <= _MAX_ROWS else f", of which the first {_MAX_ROWS} are shown"
    for text, drop, size, weight, colour in (
        ("Data partition", 0.36, 14, "bold", _INK),
        (f"{total:,} images of {image_set.name} at {sites}{shown}", 0.6, 9.5, "normal", _MUTED),
    ):
        figure.text(
            left / _WIDTH, 1 - drop / height, text, fontsize=size, weight=weight, color=colour
        )
    replace_file(
        path,
        lambda temporary: figure.savefig(
            temporary, format="png", pil_kwargs={"compress_level": _COMPRESSION}
        ),
    )


def _draw_bars(axes: Axes, image_set: ImageSet, parts: Parts, *, names: Sequence[str]) -> None:
    few = len(parts) <= _FEW_SITES
    num_classes = max(1, image_set.num_classes)
    labels = image_set.labels
    if labels is None:
        labels = np.zeros(image_set.num_images, dtype=np.int64)
    counts = label_counts(labels, parts, num_classes=num_classes)
    totals = counts.sum(axis=1)
    limit = totals.max() * 1.1
    rows, ends = np.arange(len(parts)), np.cumsum(counts, axis=1)
    colours = _class_colours(num_classes)
    # One collection: matplotlib's own bars cost a millisecond each.
    segments = [
        Rectangle((end - count, row - _BAR / 2), count, _BAR)
        for row in rows
        for end, count in zip(ends[row], counts[row], strict=True)
    ]
    axes.add_collection(
        PatchCollection(segments, facecolors=colours * len(parts), edgecolors="white", lw=0.5)
    )
    if few and image_set.num_classes > 1:
        for c, colour in enumerate(colours):
            left = ends[:, c] - counts[:, c]
            _write_counts(axes, counts[:, c], left=left, colour=colour, limit=float(limit))
    for row, total in enumerate(totals.tolist()):
        axes.text(total + limit * 0.01, row, f"{total:,}", va="center", fontsize=8, color=_INK)
    axes.set(xlim=(0, limit), ylim=(len(parts) - 0.5, -0.5))
    axes.tick_params(length=0, labelsize=8, labelcolor=_MUTED)
    axes.set_yticks(rows, names, fontsize=9 if few else 7.5, color=_INK)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("images", fontsize=8.5, color=_MUTED)
    axes.xaxis.grid(visible=True, color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _write_counts(
    axes: Axes,
    counts: npt.NDArray[np.int64],
    *,
    left: npt.NDArray[np.int64],
    colour: Colour,
    limit: float,
) -> None:
    """The count inside each segment that is wide enough to hold it."""
    figure = axes.get_figure()
    inches = axes.get_position().width * _WIDTH if figure is not None else 0.0
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = "white" if luminance < 0.6 else _INK
    for row, count in enumerate(counts.tolist()):
        if count / limit * inches > 0.065 * len(str(count)) + 0.06:
            x = float(left[row]) + count / 2
            axes.text(x, row, str(count), ha="center", va="center", fontsize=7, color=ink)


def _draw_examples(axes: Axes, image_set: ImageSet, parts: Parts, *, num_examples: int) -> None:
    size = image_set.image_size
    gap = max(1, size // 14)
    cell = size + gap
    mosaic = np.full((len(parts) * cell, num_examples * cell, 3), 255, dtype=np.uint8)
    for row, part in enumerate(parts):
        in_order = part
        if image_set.labels is not None:
            in_order = part[np.argsort(image_set.labels[part], kind="stable")]
        count = min(num_examples, len(part))
        chosen = in_order[((np.arange(count) + 0.5) * len(part) / count).astype(np.int64)]
        for column, index in enumerate(chosen):
            y, x = row * cell + gap // 2, column * cell + gap // 2
            mosaic[y : y + size, x : x + size] = image_set.images[index].transpose(1, 2, 0)
    axes.imshow(mosaic, aspect="auto", interpolation="nearest" if size < 40 else "antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    order = ", in class order" if image_set.labels is not None else ""
    axes.set_xlabel(f"examples{order}", fontsize=8.5, color=_MUTED, labelpad=14)


def _draw_legend(axes: Axes, image_set: ImageSet, *, num_columns: int) -> None:
    axes.legend(
        [Patch(facecolor=colour) for colour in _class_colours(image_set.num_classes)],
        [name[:_MAX_NAME] for name in image_set.class_names],
        ncols=num_columns,
        fontsize=8,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        borderpad=0,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def _legend_columns(image_set: ImageSet) -> int:
    """The number of class names that fit into one line; 0 for no legend."""
    if not 1 < image_set.num_classes <= _MAX_LEGEND_CLASSES:
        return 0
    lengths = [min(_MAX_NAME, len(name)) for name in image_set.class_names]
    room, mark, letter = _WIDTH - 1.5, 0.42, 0.068
    if len(lengths) * mark + sum(lengths) * letter <= room:
        return len(lengths)
    return max(1, int(room / (mark + max(lengths) * letter)))


def _class_colours(num_classes: int) -> list[Colour]:
    if num_classes > _MAX_LEGEND_CLASSES:
        spread = np.linspace(0.05, 0.95, num_classes)
        return [to_rgb(mpl.colormaps["turbo"](float(position))) for position in spread]
    name = "tab10" if num_classes <= 10 else "tab20"
    return [to_rgb(mpl.colormaps[name](c)) for c in range(num_classes)]

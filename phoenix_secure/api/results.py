"""What the Python interface returns: values that read well in a notebook, too."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phoenix_secure.audit.report import AuditReport
from phoenix_secure.compliance.output import WrittenReport

if TYPE_CHECKING:
    from phoenix_secure.data.export import DeepImages

__all__ = ["AuditResult", "Quality", "ReportResult", "Samples"]

_COLUMNS = ("kid", "frechet", "precision", "recall", "density", "coverage")


@dataclass(frozen=True, slots=True)
class Samples:
    """Generated images; the files made of them say so.

    Shape:      images (N, C, H, H) uint8, 0..255; labels (N,) int64, the class that each image was
                sampled as, or None
    deep:       the same images in 16 bits, in the values that the run's data.window mapped
    """

    images: np.ndarray = field(repr=False)
    encode: Callable[[Any], bytes] = field(repr=False)
    labels: np.ndarray | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = ()
    deep: DeepImages | None = None

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: str | Path) -> Path:
        """Write one PNG with all of them in a grid."""
        from phoenix_secure.pictures import save_grid  # brings matplotlib

        save_grid(self.images, Path(path).expanduser(), encode=self.encode)
        return Path(path).expanduser()

    def save_each(self, folder: str | Path) -> Path:
        """Write each image as a PNG of its own."""
        from phoenix_secure.pictures import save_images

        save_images(self.images, Path(folder).expanduser(), encode=self.encode)
        return Path(folder).expanduser()

    def export(self, path: str | Path, *, layout: str = "imagefolder") -> Path:
        """Write all images with their labels, as class-folders, imagefolder or npz.

        Grey images of a run with a window are 16-bit PNGs in the values that the window mapped,
        beside scale.json, which says how.

        Raises:     ConfigError for a path that exists, or a layout that these images cannot have.
        """
        from phoenix_secure.data.export import ExportLayout, export_images

        export_images(
            self.images,
            Path(path).expanduser(),
            layout=ExportLayout(layout),
            labels=self.labels,
            class_names=self.class_names,
            encode=self.encode,
            deep=self.deep,
        )
        return Path(path).expanduser()

    def _repr_html_(self) -> str:
        from phoenix_secure.pictures import grid_picture

        return png_html(self.encode(grid_picture(self.images, scale=2)))


@dataclass(frozen=True, slots=True)
class Quality:
    """Generated images beside held-out real ones and noise, as evaluation.json has it."""

    values: Mapping[str, Any] = field(repr=False)

    @property
    def kid(self) -> float:
        """Kernel distance of the generated images to the reference; smaller is better."""
        return float(self.values["rows"]["generated"]["kid"])

    @property
    def frechet(self) -> float | None:
        """Frechet distance; None where there are too few images for it."""
        found = self.values["rows"]["generated"]["frechet"]
        return None if found is None else float(found)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def __repr__(self) -> str:
        return f"Quality(kid={self.kid:.4g}, frechet={self.frechet})"

    def _repr_html_(self) -> str:
        rows = [
            (name, *(_number(values[column]) for column in _COLUMNS))
            for name, values in self.values["rows"].items()
        ]
        return table_html(("images", *_COLUMNS), rows)


@dataclass(frozen=True, slots=True)
class AuditResult:
    """An audit's report and the folder that holds audit.json, audit.md and the plots.

    unrecorded   why the audit is not in its run's ledger; None: it is, or there is no run
    superseded   folder of the run's report, which is of before this audit; None: there is none
    """

    report: AuditReport = field(repr=False)
    folder: Path
    unrecorded: str | None = None
    superseded: Path | None = None

    @property
    def verdict(self) -> str:
        """``leak found``, ``none found at this detectable effect`` or ``inconclusive``."""
        return self.report.verdict.outcome.value

    def __repr__(self) -> str:
        return f"AuditResult({self.report.verdict.headline!r}, folder={str(self.folder)!r})"

    def _repr_html_(self) -> str:
        rows = [
            (
                one.name,
                f"{one.auc.value:.3f} [{one.auc.low:.3f}, {one.auc.high:.3f}]",
                f"{one.p_adjusted:.2g}",
            )
            for one in sorted(self.report.attacks, key=lambda one: one.p_adjusted)
        ]
        headline = html.escape(self.report.verdict.headline)
        return f"<p><b>{headline}</b></p>" + table_html(("attack", "AUC", "p, adjusted"), rows)


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A signed report and where it lies."""

    written: WrittenReport = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.written.folder

    @property
    def failures(self) -> tuple[str, ...]:
        """What the report's headline calls a FAIL; empty where nothing is."""
        return tuple(self.written.report.headline.failures)

    def __repr__(self) -> str:
        return f"ReportResult(folder={str(self.folder)!r}, failures={list(self.failures)})"

    def _repr_html_(self) -> str:
        headline = self.written.report.headline
        rows = [(f"FAIL {number}", text) for number, text in enumerate(self.failures, start=1)]
        names = ("trained", "guarantee", "strongest_attack", "missing")
        rows += [(name.replace("_", " "), str(getattr(headline, name))) for name in names]
        return table_html(("", "signed report"), rows)


def table_html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain HTML table; every cell is escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def png_html(content: bytes) -> str:
    """A PNG inside the page."""
    return f'<img alt="images" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"

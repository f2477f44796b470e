"""Everything that an audit leaves in its folder, each file written atomically."""

from __future__ import annotations

from pathlib import Path

from phoenix_secure.audit.comparison import SCORES, save_scores
from phoenix_secure.audit.markdown import to_markdown
from phoenix_secure.audit.plots import save_exposed, save_histograms, save_nearest, save_roc
from phoenix_secure.audit.suite import Findings
from phoenix_secure.files import write_bytes

__all__ = ["write_findings"]

_PICTURES = ("nearest.png", "exposed.png")  # of real images


def write_findings(findings: Findings, *, out: Path) -> None:
    """``audit.json``, ``audit.md``, ``roc.png``, ``scores.png``; in the confidential edition also
    ``nearest.png`` (samples beside the members nearest to them), ``exposed.png`` (members that
    stand out) and ``scores.npz`` (for later comparisons).

    Raises:     StorageError when the disk is full or the folder cannot be written.
    """
    report = findings.report
    for name in ("audit.json", "audit.md", "roc.png", "scores.png", *_PICTURES, SCORES):
        (out / name).unlink(missing_ok=True)  # nothing of an earlier audit may stand beside this
    save_roc(findings, out / "roc.png")
    save_histograms(findings, out / "scores.png")
    if report.edition == "confidential":
        save_scores(findings, out / SCORES)
        save_exposed(findings, out / "exposed.png")
        if findings.samples is not None:
            save_nearest(findings, out / "nearest.png")
    write_bytes(out / "audit.md", to_markdown(report).encode())
    write_bytes(out / "audit.json", (report.model_dump_json(indent=2) + "\n").encode())

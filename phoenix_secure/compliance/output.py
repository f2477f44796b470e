"""Everything that a report leaves in its folder: built whole, signed, then written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.compliance.annex import with_sections
from phoenix_secure.compliance.build import DEFAULT_PROFILES, build_report
from phoenix_secure.compliance.countersignature import countersignatures_of
from phoenix_secure.compliance.declared import GOVERNANCE, parse_governance
from phoenix_secure.compliance.exports.bom import to_bom
from phoenix_secure.compliance.exports.model_card import to_model_card
from phoenix_secure.compliance.exports.registry import to_registry_entry
from phoenix_secure.compliance.frontier import SWEEP, read_sweep
from phoenix_secure.compliance.page import to_html, to_markdown
from phoenix_secure.compliance.pdf import can_write_pdf, to_pdf
from phoenix_secure.compliance.run_files import RunFiles
from phoenix_secure.compliance.schema import Edition, Profile, Report
from phoenix_secure.compliance.statement import sign_report
from phoenix_secure.compliance.timestamp import STAMP
from phoenix_secure.compliance.vulnerabilities import (
    VULNERABILITIES,
    pypi_packages,
    read_vulnerabilities,
)
from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors, write_bytes
from protocol import Identity

__all__ = [
    "WrittenReport",
    "attach_sweep",
    "attach_vulnerabilities",
    "declare",
    "mark_superseded",
    "write_report",
]

_SUPERSEDED = "SUPERSEDED.txt"

_NAMES = (
    "report.json",
    "report.dsse.json",
    "report.html",
    "report.md",
    "report.pdf",
    "bom.cdx.json",
    "model-card.md",
    "dp-registry.yaml",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenReport:
    """A report and where it lies."""

    report: Report
    folder: Path
    files: tuple[str, ...]


def declare(run: Path, governance: Path) -> None:
    """Keep the declared facts in the run's folder: the report is built from that folder alone.

    Raises:     ConfigError naming the file and the key; then nothing is changed.
    """
    try:
        content = governance.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {governance} ({error.strerror}): write one from `report --template`"
        ) from error
    parse_governance(content, name=str(governance))
    write_bytes(run / GOVERNANCE, content)


def attach_sweep(run: Path, sweep: Path) -> None:
    """Keep a sweep's results in the run's folder, as ``declare`` keeps declared facts.

    Raises:     ConfigError naming the file; then nothing is changed.
    """
    write_bytes(run / SWEEP, read_sweep(sweep))


def attach_vulnerabilities(run: Path, listed: Path) -> None:
    """Keep what a list of known vulnerabilities says of the run's components in its folder.

    Raises:     ConfigError naming the file, EvidenceError for the run's; then nothing is changed.
    """
    components = RunFiles(run).document("versions.json")
    content = read_vulnerabilities(listed, packages=pypi_packages(components))
    write_bytes(run / VULNERABILITIES, content)


def write_report(
    run: Path,
    *,
    identity: Identity,
    out: Path | None = None,
    edition: Edition = Edition.PUBLIC,
    profiles: Sequence[Profile] = DEFAULT_PROFILES,
    sections: Sequence[str] = (),
    pdf: bool | None = False,
) -> WrittenReport:
    """Build, sign and write the report of ``run`` into ``out`` (by default ``run/report``).

    ``sections`` names the extensions that write its annex; ``pdf`` None writes one where WeasyPrint
    and Pango are installed.

    Guarantee:  the same folder and settings give the same bytes, the signature included; then
                a time stamp and counter-signatures over them stay, and otherwise they go.
    Raises:     ConfigError when ``identity`` is not the ledger's server, or a section cannot be
                written; EvidenceError when the
                folder does not hold together; StorageError.
    """
    report = with_sections(build_report(run, edition=edition, profiles=profiles), sections)
    if report.value("H1.ledger")["signed_by"] != identity.public_key.hex():
        raise ConfigError(
            "the key is not the one that signed this run's ledger: name the server's identity.key "
            "with --key"
        )
    samples, reason = _samples(run, report)
    page = to_html(report, samples=samples, samples_reason=reason)
    content = {
        "report.json": report.to_bytes(),
        "report.html": page.encode(),
        "report.md": to_markdown(report).encode(),
        "bom.cdx.json": to_bom(report),
        "model-card.md": to_model_card(report).encode(),
    }
    entry = to_registry_entry(report)
    if entry is not None:
        content["dp-registry.yaml"] = entry.encode()
    if pdf or (pdf is None and can_write_pdf()):
        content["report.pdf"] = to_pdf(page)
    content["report.dsse.json"] = sign_report(report, content, identity=identity)
    folder = out or run / "report"
    with storage_errors(folder):
        over = _signatures_over(folder, content["report.dsse.json"])
        # A signature over files of another build must not stand beside new ones: it goes first.
        for name in (*over, _SUPERSEDED, "report.dsse.json", *_NAMES):
            (folder / name).unlink(missing_ok=True)
    for name, data in content.items():
        write_bytes(folder / name, data)
    return WrittenReport(report=report, folder=folder, files=tuple(content))


def _signatures_over(folder: Path, envelope: bytes) -> list[str]:
    """What others signed over an envelope here that is not ``envelope``, byte for byte."""
    old = folder / "report.dsse.json"
    if old.is_file() and old.read_bytes() == envelope:
        return []
    return [STAMP, *(path.name for path in countersignatures_of(folder / "report.json"))]


def mark_superseded(run: Path) -> Path | None:
    """Say beside the report of ``run`` that an audit came later; where there is no report, nothing.

    The report itself is signed, and stays. ``write_report`` takes the mark away.

    Raises:     StorageError.
    """
    folder = run / "report"
    if not (folder / "report.json").is_file():
        return None
    text = (
        "This report is superseded: the run was audited again after it was written.\n"
        "Build it again: phoenix-secure report RUN\n"
    )
    write_bytes(folder / _SUPERSEDED, text.encode())
    return folder


def _samples(run: Path, report: Report) -> tuple[bytes | None, str]:
    """Generated images; for the public only where the audit screened samples and found no copy."""
    path = run / "samples.png"
    if not path.is_file():
        return None, "No images were sampled."
    copying = report.value("E5.copying")
    if report.edition is Edition.PUBLIC and (copying is None or copying["extracted"] > 0):
        return None, (
            "Samples are not shown: the audit has not screened them for copies of training images."
            if copying is None
            else "Samples are not shown: some are as near to a training image as a copy would be."
        )
    return path.read_bytes(), ""

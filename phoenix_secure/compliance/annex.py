"""The annex: sections that extensions write from the finished report, marked as not verified.

``verify`` does not write them again. It would have to run the code that a report names, on the
machine of a reader who has no reason to trust either. So an annex proves nothing: the signature
shows that it is as its maker signed it, every page says who wrote it, and no field, first line or
exit code follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import ValidationError

from phoenix_secure.compliance.build import annexed
from phoenix_secure.compliance.schema import AnnexSection, Report
from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import ExtensionPoint, ReportSection, extension

__all__ = ["with_sections"]


def with_sections(report: Report, names: Sequence[str]) -> Report:
    """``report`` with an annex by the extensions ``names`` (``extensions.ReportSectionWriter``).

    Guarantee:  each of them gets a copy: whatever it does, the report's own fields stay.
    Raises:     ConfigError for an extension that is missing, named twice, fails, or returns what
                is no section.
    """
    if len(set(names)) < len(names):
        raise ConfigError("a report section is named twice: name each once")
    return annexed(report, [_section(report, name) for name in names]) if names else report


def _section(report: Report, name: str) -> AnnexSection:
    write = extension(ExtensionPoint.REPORT_SECTION, name)
    try:
        found = write(Report.model_validate_json(report.to_bytes()))
    except Exception as error:  # whatever somebody else's code raises
        raise ConfigError(
            f"the report section {name} failed ({type(error).__name__}: {error}): fix the "
            "extension, or leave it out"
        ) from error
    if not isinstance(found, ReportSection):
        raise ConfigError(
            f"the report section {name} must return a phoenix_secure.ReportSection, got "
            f"{type(found).__name__}"
        )
    try:
        return AnnexSection(extension=name, **asdict(found))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "rows"
        raise ConfigError(
            f"the report section {name} is not one that fits ({place}: {first['msg']}): fix the "
            "extension"
        ) from error

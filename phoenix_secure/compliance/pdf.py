"""The page as PDF/UA (tagged, for screen readers); needs the extra ``report-pdf``."""

from __future__ import annotations

import logging

from phoenix_secure.errors import ConfigError

__all__ = ["can_write_pdf", "to_pdf"]


def can_write_pdf() -> bool:
    """Whether WeasyPrint and its system library are installed."""
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def to_pdf(page: str) -> bytes:
    """The HTML page ``page`` as PDF.

    Guarantee:  nothing outside the page is asked for: only ``data:`` is allowed.
    Raises:     ValueError where the page does ask; ConfigError where WeasyPrint or its system
                library Pango is missing.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import FatalURLFetchingError, URLFetcher
    except (ImportError, OSError) as error:
        raise ConfigError(
            "a PDF needs WeasyPrint and Pango: pip install 'phoenix-secure[report-pdf]' and the "
            "system package libpango-1.0-0, or leave --pdf out"
        ) from error
    # Its warnings are about styles for screens.
    logging.getLogger("weasyprint").setLevel(logging.ERROR)
    fetcher = URLFetcher(allowed_protocols=("data",), fail_on_errors=True)
    try:
        document: bytes = HTML(string=page, url_fetcher=fetcher).write_pdf(pdf_variant="pdf/ua-1")
    except FatalURLFetchingError as error:
        raise ValueError(f"expected a page that asks for nothing outside it: {error}") from error
    return document

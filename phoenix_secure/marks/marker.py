"""Writes PNG files that say that a model made them."""

from __future__ import annotations

import functools
import io
import logging

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phoenix_secure import __version__
from phoenix_secure.marks.credentials import can_sign, sign_png
from phoenix_secure.marks.origin import Origin
from phoenix_secure.marks.signer import MarkSigner
from phoenix_secure.marks.xmp import PNG_KEYWORD, SourceType, xmp_packet

__all__ = ["Marker", "described_png"]

_log = logging.getLogger(__name__)
_TOOL = ("phoenix-secure", __version__)


class Marker:
    """Encodes pictures with both marks: IPTC's in the metadata, and signed content credentials.

    Without the ``marks`` extra there are no credentials; the log says so once.

    signer      by default a key that is thrown away
    """

    def __init__(self, origin: Origin, *, signer: MarkSigner | None = None) -> None:
        self.origin = origin
        self._signer = signer

    def __call__(self, picture: Image.Image, *, source: SourceType = SourceType.GENERATED) -> bytes:
        """The picture as a PNG file."""
        png = described_png(picture, source=source)
        if not _has_extra():
            return png
        if self._signer is None:
            self._signer = MarkSigner.new("unnamed: whoever sampled this model")
        return sign_png(png, origin=self.origin, source=source, signer=self._signer, tool=_TOOL)


def described_png(picture: Image.Image, *, source: SourceType = SourceType.GENERATED) -> bytes:
    """A PNG file with IPTC's mark alone: the same bytes every time, for pages that are."""
    info = PngInfo()
    info.add_itxt(PNG_KEYWORD, xmp_packet(source, tool=" ".join(_TOOL)))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


@functools.cache
def _has_extra() -> bool:
    found = can_sign()
    if not found:
        _log.warning(
            "pictures carry IPTC's mark and no content credentials: install the extra, "
            "phoenix-secure[marks]"
        )
    return found

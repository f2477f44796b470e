"""The mark in an image's metadata: IPTC's ``DigitalSourceType`` in an XMP packet.

Source:     IPTC Photo Metadata Standard 2023.1, "Digital Source Type", with the vocabulary at
            http://cv.iptc.org/newscodes/digitalsourcetype/; ISO 16684-1 (XMP). In PNG the packet
            is an iTXt chunk of this keyword (XMP specification part 3).
"""

from __future__ import annotations

from enum import StrEnum
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

__all__ = ["PNG_KEYWORD", "SourceType", "source_type_in", "xmp_packet"]

PNG_KEYWORD = "XML:com.adobe.xmp"
_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PROPERTY = f"{{{_IPTC}}}DigitalSourceType"
_MOST = 1 << 20  # characters of a packet; ours has 500


class SourceType(StrEnum):
    """The part of a model in a picture."""

    GENERATED = "trainedAlgorithmicMedia"
    COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # beside real images

    @property
    def uri(self) -> str:
        """The term as IPTC writes it."""
        return f"{_VOCABULARY}{self.value}"


def xmp_packet(source: SourceType, *, tool: str) -> str:
    """The packet of a picture that ``tool``, a program with its version, made."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'<rdf:Description rdf:about="" xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}"\n'
        f"  Iptc4xmpExt:DigitalSourceType={quoteattr(source.uri)}\n"
        f"  xmp:CreatorTool={quoteattr(tool)}/>\n"
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="r"?>'
    )


def source_type_in(packet: str | bytes) -> str | None:
    """The ``DigitalSourceType`` of a packet of any program, as the vocabulary's term or as it is.

    None where there is none, and for what is no packet: strangers' files are read, too.
    """
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    # XMP has no document type; a parser that expands entities is not asked.
    if len(text) > _MOST or "<!" in text:
        return None
    try:
        root = ElementTree.fromstring(text.strip("\ufeff\x00 \n"))  # noqa: S314 - no entities
    except (ElementTree.ParseError, ValueError):
        return None
    for description in root.iter(f"{{{_RDF}}}Description"):
        value = description.get(_PROPERTY)
        if value is None:
            element = description.find(_PROPERTY)
            value = None if element is None else (element.text or "")
        if value is not None:
            return value.strip().removeprefix(_VOCABULARY)
    return None

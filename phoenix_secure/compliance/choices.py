"""Choices of a report's reader: its audience, and whose questions it must answer.

They live apart from the schema, so that the command line can offer them without loading it.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Edition", "Profile"]


class Edition(StrEnum):
    """The audience of a report.

    public         no score, index or picture of a single member, no figure of a site or of a small
                   group, numbers of images in bands
    confidential   for the data owners: with figures per site and per class
    """

    PUBLIC = "public"
    CONFIDENTIAL = "confidential"


class Profile(StrEnum):
    """Whose questions a report must answer; its gaps are listed against these."""

    EDPB = "edpb"
    DPIA = "dpia"
    ANNEX_IV = "annex-iv"
    NIST_226 = "nist-226"
    HIPAA = "hipaa"
    DP_REGISTRY = "dp-registry"
    AISVS = "aisvs"

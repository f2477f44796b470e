"""Names that become folders of a SyftBox."""

from __future__ import annotations

import re

from protocol.encoding import is_id

__all__ = ["is_name"]

# PySyft keeps these for the versions of its own formats.
_RESERVED = re.compile(r"v\d+")


def is_name(text: object) -> bool:
    """Whether ``text`` may name a proposal or a data set.

    >>> is_name("study-1"), is_name("v1"), is_name("../up")
    (True, False, False)
    """
    return is_id(text) and _RESERVED.fullmatch(str(text)) is None

"""Names of data sets on the Hugging Face hub: ``hf://OWNER/NAME``, so that no folder is one.

``clinic/patients`` is a folder or nothing: a slip of the pen must not tell the hub what a site's
folders are called.
"""

from __future__ import annotations

import re
from pathlib import Path

from phoenix_secure.errors import DataError

__all__ = ["HUB", "hub_name"]

HUB = "hf://"
_NAME = re.compile(r"(?:datasets/)?((?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95})")


def hub_name(reference: str) -> str | None:
    """The name that the hub may be asked for; None where ``reference`` is a local path.

    >>> hub_name("hf://ylecun/mnist"), hub_name("ylecun/mnist")
    ('ylecun/mnist', None)

    Raises:     DataError for what begins with hf:// and is no such name, or is a folder here, too:
                the datasets package would read that one.
    """
    if not reference.startswith(HUB):
        return None
    found = _NAME.fullmatch(reference.removeprefix(HUB))
    if not found:
        raise DataError(f"{reference[:200]} is no data set of the hub: write hf://OWNER/NAME")
    if Path(found[1]).exists():
        raise DataError(f"{reference} is a folder here, too: start from another working directory")
    return found[1]

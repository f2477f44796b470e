"""``deploy suspend``, ``resume`` and ``revoke``: sites leave the roster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_secure.cli.output import console

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.founding import OwnerFolder
__all__ = ["resume", "revoke", "show_pending_changes", "suspend"]

_OwnerFolder = Annotated[Path, typer.Argument(help="The owner's folder, made by `deploy found`.")]
_Site = Annotated[str, typer.Argument(metavar="SITE", help="Name of a site in the roster.")]
_Reason = Annotated[
    str,
    typer.Option(
        "--reason",
        help="Why; signed with the roster, and read by every party. At most 200 letters.",
    ),
]


def suspend(folder: _OwnerFolder, site: _Site, reason: _Reason = "") -> None:
    """Leave a site out until it is resumed; `deploy sign` makes it so.

    Its key stays its own: nobody else gets its name or its key meanwhile.
    """
    owner = _owner(folder)
    owner.suspend(site, reason=reason)
    show_pending_changes(owner)


def resume(folder: _OwnerFolder, site: _Site, reason: _Reason = "") -> None:
    """Take a suspended site in again; or take back a decision that is not signed yet."""
    owner = _owner(folder)
    owner.resume(site, reason=reason)
    show_pending_changes(owner)


def revoke(folder: _OwnerFolder, site: _Site, reason: _Reason = "") -> None:
    """Leave a site out for good; `deploy sign` makes it so.

    Its key never counts again, under any name. To come back the site makes new keys (`site init`
    in a new folder), and the owner admits them (`deploy admit --replaces SITE`).
    """
    owner = _owner(folder)
    owner.revoke(site, reason=reason)
    show_pending_changes(owner)


def show_pending_changes(owner: OwnerFolder) -> None:
    """What `deploy sign` would change, and that it has to be typed."""
    for change in owner.pending():
        console.print(f"with the next roster: {change}", markup=False, soft_wrap=True)
    console.print(
        f"nothing has changed for anybody before `phoenix-secure deploy sign {owner.path}`, and "
        "each party joins with its new welcome",
        soft_wrap=True,
    )


def _owner(folder: Path) -> OwnerFolder:
    from phoenix_secure.federation.deployment.founding import OwnerFolder

    return OwnerFolder(folder)

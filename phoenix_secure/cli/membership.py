"""``deploy suspend``, ``resume`` and ``revoke``: sites leave the roster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_secure.cli.output import console

if TYPE_CHECKING:
    from phoenix_secure.federation.deployment.founding import OwnerFolder
    from protocol import ChangeKind

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
    from protocol import ChangeKind

    _decide(folder, site, kind=ChangeKind.SUSPENDED, reason=reason)


def resume(folder: _OwnerFolder, site: _Site, reason: _Reason = "") -> None:
    """Take a suspended site in again; or take back a decision that is not signed yet."""
    from protocol import ChangeKind

    _decide(folder, site, kind=ChangeKind.RESUMED, reason=reason)


def revoke(folder: _OwnerFolder, site: _Site, reason: _Reason = "") -> None:
    """Leave a site out for good; `deploy sign` makes it so.

    Its key never counts again, under any name. To come back the site makes new keys (`site init`
    in a new folder), and the owner admits them (`deploy admit --replaces SITE`).
    """
    from protocol import ChangeKind

    _decide(folder, site, kind=ChangeKind.REVOKED, reason=reason)


def show_pending_changes(owner: OwnerFolder) -> None:
    """What `deploy sign` would change, and that it has to be typed."""
    for change in owner.pending():
        console.print(f"with the next roster: {change}", markup=False, soft_wrap=True)
    console.print(
        f"nothing has changed for anybody before `phoenix-secure deploy sign {owner.path}`, and "
        "each party joins with its new welcome",
        soft_wrap=True,
    )


def _decide(folder: Path, site: str, *, kind: ChangeKind, reason: str) -> None:
    from phoenix_secure.errors import ConfigError
    from phoenix_secure.federation.deployment.founding import OwnerFolder
    from protocol import RosterChange

    owner = OwnerFolder(folder)
    try:
        change = RosterChange(kind=kind, party=site, reason=reason)
    except ValueError as error:
        raise ConfigError(f"SITE or --reason: {error}") from error
    owner.decide(change)
    show_pending_changes(owner)

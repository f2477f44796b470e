"""New keys in the folder of a site that has joined, which keeps its ledger, promises and log.

::

    next/      the new keys and SITE.request, until a welcome names them; the old ones serve on
    switch/    the same with certificate, authority and rosters: what is being put in place

One rename, of ``next`` to ``switch``, is the moment from which on the new keys count. What follows
can be done again as often as it is interrupted: each file moves over its old one, the rosters last.
The old private keys are gone then; their public halves stay in the rosters, for verifying.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.held_rosters import take_rosters
from phoenix_secure.federation.deployment.join_request import (
    JoinRequest,
    read_request,
    site_request,
)
from phoenix_secure.federation.deployment.party_keys import SiteKeys, read_identity
from phoenix_secure.federation.deployment.site_folder import SiteFolder, read_rosters
from phoenix_secure.files import replace_folder, storage_errors, sync_folder, write_bytes
from protocol import Roster

__all__ = ["finish_switch", "keys_named", "prepare_renewal", "renewal_request", "switch_keys"]

_NEXT, _SWITCH = "next", "switch"
_MOVED = ("identity.key", "node.key", "door.key", "door.crt", "ca.crt")


def prepare_renewal(folder: Path) -> JoinRequest:
    """Make new keys of the site in ``folder``, beside the old ones, and the request for them.

    The identity key of before signs the request, too, where the site still has it. A renewal that
    is under way is gone on with: the same request again.

    Guarantee:  made whole or not at all; nothing that the site uses is changed.
    Raises:     ConfigError for a site that is not in the roster, or whose key is another one than
                the roster's; StorageError.
    """
    finish_switch(folder)
    under_way = renewal_request(folder)
    if under_way is not None:
        return under_way
    place = SiteFolder(folder)
    settings, roster = place.settings(), place.roster()
    earlier = place.identity(settings, roster) if place.identity_key.exists() else None
    with storage_errors(folder):
        for left in folder.glob(f".{_NEXT}.*.tmp"):  # of one that was killed here
            shutil.rmtree(left)
    keys = SiteKeys.generate(settings.site, suite=roster.suite)
    request = site_request(
        keys, federation=settings.federation, suite=roster.suite, earlier=earlier
    )
    with replace_folder(folder / _NEXT) as made:
        keys.write_renewable(made)
        write_bytes(made / request.file_name, request.data)
        sync_folder(made)
    sync_folder(folder)
    return request


def renewal_request(folder: Path) -> JoinRequest | None:
    """The request for the new keys in ``folder``; None where no renewal is under way.

    Raises:     ConfigError for one that cannot be read.
    """
    place = folder / _NEXT
    if not place.is_dir():
        return None
    found = sorted(place.glob("*.request"))
    if len(found) != 1:
        raise ConfigError(
            f"{place} holds {len(found)} requests in place of one: delete the folder, and make new "
            "keys with `site renew`"
        )
    return read_request(found[0])


def keys_named(folder: Path, roster: Roster, *, party: str) -> Path:
    """Where the keys of ``party`` lie that ``roster`` names: ``folder``, or the new ones in it.

    Raises:     ConfigError for a key file that others can read.
    """
    new = folder / _NEXT
    if not new.is_dir():
        return folder
    identity = read_identity(new, party, suite=roster.suite)
    return new if roster.key(party) == identity.public_key else folder


def switch_keys(folder: Path) -> None:
    """Put the new keys in place, beside which all that came with the welcome lies already.

    Raises:     StorageError.
    """
    with storage_errors(folder):
        sync_folder(folder / _NEXT)
        (folder / _NEXT).rename(folder / _SWITCH)
        sync_folder(folder)
    finish_switch(folder)


def finish_switch(folder: Path) -> None:
    """Finish a switch of keys that was interrupted; does nothing where there was none.

    Raises:     StorageError; CheckpointError where the site's log is missing.
    """
    new, place = folder / _SWITCH, SiteFolder(folder)
    if not new.is_dir():
        return
    with storage_errors(folder):
        for name in _MOVED:
            with contextlib.suppress(FileNotFoundError):  # moved before
                (new / name).replace(folder / name)
        sync_folder(folder)
    if (new / "roster.bin").exists():
        # Another process may have taken newer ones from the server meanwhile.
        with contextlib.suppress(ConfigError):
            take_rosters(folder, (new / "roster.bin").read_bytes())
    _note(place)
    with storage_errors(folder):
        for left in new.iterdir():
            left.unlink()
        new.rmdir()
        sync_folder(folder)


def _note(place: SiteFolder) -> None:
    """One line of the site's log; once, however often the switch was interrupted."""
    rosters = read_rosters(place.path)
    site = place.settings().site
    key = read_identity(place.path, site, suite=rosters.current.suite).public_key.hex()
    audit = place.audit()
    known = [line.get("key") for line in audit.lines() if line.get("event") == "keys renewed"]
    if key not in known:
        audit.record("keys renewed", site=site, key=key, roster=rosters.current.hash.hex())

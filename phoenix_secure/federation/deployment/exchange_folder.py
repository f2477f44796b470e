"""The folder that a federation's messages travel in, checked before anybody uses it.

::

    ROOT/federation.json     whose folder it is: written by the server, read by the sites
    ROOT/SITE/               messages of one site (``engines/folder.py``)

``federation.json`` keeps two federations, or two runs, from clearing each other's messages away. It
proves nothing: who may be believed is for the signatures inside the messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.engines.folder import replies_of
from phoenix_secure.files import write_bytes
from protocol import RosterChain

__all__ = ["check_server_side", "check_site_side", "open_server_side", "parse_via"]

_MARK = "federation.json"
_MAX_MARK = 4096


def parse_via(text: str) -> Path:
    """The folder in ``folder:PATH``, absolute.

    Raises:     ConfigError for anything else.
    """
    kind, _, path = text.partition(":")
    if kind != "folder" or not path:
        raise ConfigError(
            f"--via {text}: write folder:PATH, the folder that messages travel in; without --via "
            "the sites are reached over the network"
        )
    return Path(path).expanduser().absolute()


def check_server_side(root: Path, *, rosters: RosterChain) -> bool:
    """Whether ``root`` is marked as this federation's; it changes nothing there.

    Raises:     ConfigError where it is missing, cannot be written, or is another federation's.
    """
    _require_folder(root)
    is_marked = _is_marked(root, rosters)
    _require_writable(root)
    return is_marked


@contextlib.contextmanager
def open_server_side(root: Path, *, rosters: RosterChain) -> Iterator[None]:
    """Take ``root`` for a run of this federation, until the end of the block.

    Raises:     ConfigError where it is missing, cannot be written, is another federation's, or
                another run is using it.
    """
    mark = root / _MARK
    if not check_server_side(root, rosters=rosters):
        first = rosters.first
        facts = {"federation": first.federation_id, "roster": first.hash.hex()}
        write_bytes(mark, json.dumps(facts).encode() + b"\n")
    with mark.open("rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another run is using the folder {root}: stop it, or give this one a folder of "
                "its own"
            ) from None
        except OSError:
            pass  # a share without locks: two runs on it are for its users to avoid
        yield


def check_site_side(root: Path, *, site: str, rosters: RosterChain) -> bool:
    """Make the site's own part of ``root``; whether the server has been there before.

    Raises:     ConfigError where the folder is missing, cannot be written, or is another
                federation's.
    """
    _require_folder(root)
    is_marked = _is_marked(root, rosters)
    try:
        replies_of(root, site).make()
    except OSError as error:
        raise _unwritable(root / site, error) from error
    _require_writable(root / site / "replies")
    return is_marked


def _require_folder(root: Path) -> None:
    # Never made here: below an empty mount point it would be a folder that nobody carries away.
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "is missing"
        raise ConfigError(
            f"the folder {root} {what}: mount the share, insert the stick, or make the folder, and "
            "try again (folder in site.yaml or server.yaml, or --via folder:PATH)"
        )


def _require_writable(folder: Path) -> None:
    probe = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{folder} cannot be written ({error.strerror or error}): let the user of this program "
        "write there, or choose another folder"
    )


def _is_marked(root: Path, rosters: RosterChain) -> bool:
    """Whether ``root`` is marked as this federation's; False where it has no mark.

    Raises:     ConfigError for another federation's mark, or one that cannot be read.
    """
    mark = root / _MARK
    try:
        with mark.open("rb") as file:
            found = json.loads(file.read(_MAX_MARK))
        name, marked = str(found["federation"]), str(found["roster"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{mark} cannot be read ({type(error).__name__}): if a copy is under way, wait for it; "
            "else choose another folder"
        ) from error
    # The first roster's hash stays the federation's, whoever has taken which epoch by now.
    first = rosters.first
    if marked != first.hash.hex():
        raise ConfigError(
            f"{root} holds messages of another federation ({name!r}, roster {marked[:16]}; this "
            f"one is {first.federation_id!r}, {first.hash.hex()[:16]}): choose another folder"
        )
    return True

"""Signed approvals of plans at a site: a plan is denied unless its approver signed it.

The key that approves is not the key that the site computes with. It can stay on another machine:
an approval is a small file that is signed there and copied to the site.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import write_bytes
from protocol import Identity
from protocol.encoding import encode, encode_text, encode_uint
from protocol.identity import verify_signature

__all__ = ["Approver", "Decision", "Identity", "SignedApprovals", "require_digits", "sign_approval"]

_LABEL = b"phoenix-secure/plan-approval/v1"
_MAX_BYTES = 4096
_HASH_DIGITS = 64
_MIN_DIGITS = 16
_FIELDS = {"plan", "site", "expires", "signature"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether a plan may run; ``why`` is for the site's own records."""

    approved: bool
    why: str


class Approver(Protocol):
    """Decides over plans by their hash. Whatever it does not know it must deny."""

    def decide(self, plan: str) -> Decision:
        """The decision over the plan with this hash, made again for every request."""
        ...


class SignedApprovals:
    """Approvals as files ``FOLDER/HASH.json``, signed by the owner whose key is pinned.

    Deleting the file withdraws the approval at once.
    """

    def __init__(self, folder: Path, *, site: str, owner_key: bytes) -> None:
        self._folder = folder
        self._site = site
        self._owner_key = owner_key

    def decide(self, plan: str) -> Decision:
        path = self._folder / f"{plan}.json"
        try:
            content = path.read_bytes()
        except OSError:
            return Decision(approved=False, why="no approval")
        try:
            approval = json.loads(content[: _MAX_BYTES + 1])
            expires = approval["expires"]
            message = _message(plan=plan, site=self._site, expires=expires)
            signature = bytes.fromhex(approval["signature"])
            is_whole = set(approval) == _FIELDS and len(content) <= _MAX_BYTES
        except (ValueError, KeyError, TypeError, RecursionError):
            return Decision(approved=False, why="the approval cannot be read")
        if not is_whole or approval["plan"] != plan or approval["site"] != self._site:
            return Decision(approved=False, why="the approval is for another plan or site")
        if not verify_signature(self._owner_key, signature=signature, message=message):
            return Decision(approved=False, why="the approval is not signed by the owner")
        if expires <= dt.datetime.now(dt.UTC).timestamp():
            return Decision(approved=False, why="the approval has expired")
        return Decision(approved=True, why="approved by the owner")


def require_digits(digits: str, *, asks: bool) -> None:
    """Refuse a name of a plan that is too short to sign by.

    asks    the owner reads the plan and is asked, so that 16 digits point it out; else all 64 are
            needed. Of 16, a server can make two plans, and offer the one that nobody read.

    Raises:     ConfigError.
    """
    needed = _MIN_DIGITS if asks else _HASH_DIGITS
    if not needed <= len(digits) <= _HASH_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise ConfigError(
            f"name the plan by at least {_MIN_DIGITS} hexadecimal digits of its hash: see "
            "`phoenix-secure site plans`"
            if asks
            else f"--yes needs the whole hash of the plan, {_HASH_DIGITS} hexadecimal digits: "
            "see `phoenix-secure site plans`"
        )


def sign_approval(folder: Path, *, plan: str, site: str, owner: Identity, days: int = 90) -> Path:
    """Approve ``plan`` for ``days`` days and return the file.

    Raises:     ConfigError for a plan hash or a number of days that cannot be.
    """
    if len(plan) != _HASH_DIGITS or not set(plan) <= set("0123456789abcdef"):
        raise ConfigError(
            "a plan is named by 64 hexadecimal digits: see `phoenix-secure site plans`"
        )
    if not 1 <= days <= 3660:
        raise ConfigError(f"an approval holds for 1 to 3660 days, got {days}")
    expires = int((dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).timestamp())
    signature = owner.sign(_message(plan=plan, site=site, expires=expires))
    approval = {"plan": plan, "site": site, "expires": expires, "signature": signature.hex()}
    path = folder / f"{plan}.json"
    write_bytes(path, (json.dumps(approval, indent=2, sort_keys=True) + "\n").encode())
    return path


def _message(*, plan: str, site: str, expires: int) -> bytes:
    if not isinstance(expires, int) or isinstance(expires, bool):
        raise TypeError("expected a whole number of seconds")
    return encode([_LABEL, bytes.fromhex(plan), encode_text(site), encode_uint(expires)])

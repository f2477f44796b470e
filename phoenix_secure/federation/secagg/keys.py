"""Signing keys and the roster of a simulation, each key in its owner's folder.

::

    server/identity.key         sites/NAME/identity.key     readable by their owner alone
    roster.bin, owner.key.pub   who takes part, signed by the run's owner

A key file holds a seed alone. Which kind of key it makes is the roster's matter, whose owner's
public key lies in a folder above.

The owner's key signs the roster once and is then forgotten: nobody can add a site later.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import CheckpointError
from phoenix_secure.files import write_bytes
from phoenix_secure.secret_files import make_private_folder, write_secret
from protocol import SERVER, Identity, RemoteProtocolError, Roster
from protocol.identity import suite_of_key
from protocol.suite import Suite

__all__ = ["RunKeys", "read_identity"]

_SEED_SIZE = 32
# Under the name that a simulation or a federation folder gives it.
_OWNER_KEYS = ("owner.key.pub", "federation-owner.pub")


def read_identity(path: Path, *, id: str, suite: Suite | None = None) -> Identity:
    """The signing key in ``path``; by default of the suite of the owner's key near it.

    Raises:     CheckpointError when it is missing, damaged, or open to others.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            seed = file.read(_SEED_SIZE + 1)
    except OSError as error:
        raise CheckpointError(
            f"cannot read the signing key {path}: restore it, or start again"
        ) from error
    if mode & 0o077:
        raise CheckpointError(
            f"the signing key {path} can be read by others: chmod 600, and consider it known"
        )
    if len(seed) != _SEED_SIZE:
        raise CheckpointError(f"the signing key {path} is damaged: restore it, or start again")
    return Identity(id, seed=seed, suite=suite or _suite_near(path))


def _suite_near(path: Path) -> Suite:
    """The suite of the federation that the key in ``path`` is of."""
    for folder in list(path.resolve().parents)[:3]:
        for name in _OWNER_KEYS:
            if (folder / name).is_file():
                suite = suite_of_key((folder / name).read_bytes())
                if suite is None:
                    raise CheckpointError(f"{folder / name} holds no public key: restore it")
                return suite
    return Suite.CLASSICAL


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class RunKeys:
    """The identities of all parties of a simulation, and their roster."""

    server: Identity
    sites: dict[str, Identity]
    roster: Roster

    @classmethod
    def create(
        cls, folder: Path, *, sites: Iterable[str], suite: Suite = Suite.CLASSICAL
    ) -> RunKeys:
        """New keys from the operating system's randomness, written below ``folder``.

        Raises:     StorageError, also when there are keys: none is ever overwritten.
        """
        owner = Identity.generate("owner", suite=suite)
        server = Identity.generate(SERVER, suite=suite)
        identities = {name: Identity.generate(name, suite=suite) for name in sites}
        roster = Roster.create(
            federation_id=f"run-{secrets.token_hex(8)}",
            owner_key=owner.public_key,
            server_key=server.public_key,
            keys={name: identity.public_key for name, identity in identities.items()},
        )
        paths = {_server_key(folder): server}
        paths |= {_site_key(folder, name): identity for name, identity in identities.items()}
        for path, identity in paths.items():
            make_private_folder(path.parent)
            write_secret(path, identity.export_seed())
        write_bytes(folder / "owner.key.pub", owner.public_key)
        write_bytes(folder / "roster.bin", roster.sign(owner))
        return cls(server=server, sites=identities, roster=roster)

    @classmethod
    def load(cls, folder: Path, *, sites: Iterable[str]) -> RunKeys:
        """The keys that ``create`` wrote.

        Raises:     CheckpointError when something is missing or does not belong together.
        """
        try:
            owner_key = (folder / "owner.key.pub").read_bytes()
            roster = Roster.load((folder / "roster.bin").read_bytes(), owner_key=owner_key)
        except (OSError, RemoteProtocolError) as error:
            raise CheckpointError(
                f"the roster in {folder} is missing or damaged: restore it, or start again"
            ) from error
        keys = cls(
            server=read_identity(_server_key(folder), id=SERVER, suite=roster.suite),
            sites={
                name: read_identity(_site_key(folder, name), id=name, suite=roster.suite)
                for name in sites
            },
            roster=roster,
        )
        for identity in (keys.server, *keys.sites.values()):
            if roster.key(identity.id) != identity.public_key:
                raise CheckpointError(
                    f"the key of {identity.id} in {folder} is not the one in the roster: "
                    "restore it, or start again"
                )
        return keys


def _server_key(folder: Path) -> Path:
    return folder / "server" / "identity.key"


def _site_key(folder: Path, name: str) -> Path:
    return folder / "sites" / name / "identity.key"

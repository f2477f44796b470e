"""``phoenix-secure deploy init``: a whole federation in one place, for rehearsals and trials.

::

    FOLDER/owner/           owner.key, which signs the roster: take it away
    FOLDER/server/          goes to the server
    FOLDER/sites/NAME/      goes to that site, and to nobody else
    FOLDER/federation.md    what to do next, with the fingerprint to compare
    FOLDER/start.sh         a rehearsal of the whole federation on this machine
    FOLDER/approve.sh       signs a plan for every site of a rehearsal

Whoever runs this sees all keys until the folders are handed over and deleted here. Where that may
not be, each party makes its own keys: ``founding`` and ``joining``, ``docs/deployment.md``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phoenix_secure.federation.deployment.certificates import Authority
from phoenix_secure.federation.deployment.deployment import Deployment, numbered_sites
from phoenix_secure.federation.deployment.new_folder import new_folder
from phoenix_secure.federation.deployment.party_folders import (
    Papers,
    complete_server,
    complete_site,
)
from phoenix_secure.federation.deployment.party_keys import ServerKeys, SiteKeys, node_line
from phoenix_secure.federation.deployment.texts import (
    approve_script,
    compose_file,
    next_steps,
    start_script,
)
from phoenix_secure.files import write_bytes
from phoenix_secure.secret_files import make_private_folder, write_secret
from protocol import Identity, Roster
from protocol.suite import Suite

__all__ = ["Deployment", "initialise", "numbered_sites"]


def initialise(folder: Path, deployment: Deployment) -> Roster:
    """Make everything below ``folder``, which must not exist yet or be empty.

    Guarantee:  key files have mode 0600 from the first moment on; each site's folder holds that
                site's secrets and no other; when anything fails, nothing is left behind.
    Raises:     ConfigError for a folder in use; StorageError when it cannot be written.
    """
    with new_folder(folder):
        return _make(folder, deployment)


def _make(folder: Path, deployment: Deployment) -> Roster:
    suite, days = Suite(deployment.suite), deployment.days
    owner = Identity.generate("owner", suite=suite)
    server = ServerKeys.generate(suite=suite)
    sites = {site: SiteKeys.generate(site, suite=suite) for site in sorted(deployment.sites)}
    roster = Roster.create(
        federation_id=deployment.federation,
        owner_key=owner.public_key,
        server_key=server.identity.public_key,
        keys={site: keys.identity.public_key for site, keys in sites.items()},
    )
    signed = roster.sign(owner)
    # Its key is thrown away: no certificate for a second, false server will verify at the sites.
    authority = Authority.make(deployment.federation, days=days)
    make_private_folder(folder)
    make_private_folder(folder / "owner")
    write_secret(folder / "owner" / "owner.key", owner.export_seed())

    server.write(folder / "server")
    papers = Papers(
        ca_certificate=authority.pem,
        certificate=authority.certify_server(
            server.tls.public_key(),
            federation=deployment.federation,
            hosts=[deployment.host],
            days=days,
        ),
        roster=signed,
        owner_key=owner.public_key,
        nodes={site: node_line(keys.node.public_key()) for site, keys in sites.items()},
    )
    complete_server(folder / "server", papers, deployment=deployment)

    for number, (site, keys) in enumerate(sites.items()):
        place = folder / "sites" / site
        keys.write(place)
        certificate = authority.certify_client(keys.door.public_key(), name=site, days=days)
        complete_site(
            place,
            replace(papers, certificate=certificate),
            site=site,
            deployment=deployment,
            number=number,
        )
    _write_texts(folder, deployment, roster)
    return roster


def _write_texts(folder: Path, deployment: Deployment, roster: Roster) -> None:
    over_network = deployment.folder is None
    write_bytes(folder / "federation.md", next_steps(deployment, roster.fingerprint).encode())
    write_bytes(
        folder / "start.sh", start_script(deployment.sites, over_network=over_network).encode()
    )
    (folder / "start.sh").chmod(0o700)
    if deployment.rehearsal:
        write_bytes(folder / "approve.sh", approve_script(deployment.sites).encode())
        (folder / "approve.sh").chmod(0o700)
    if over_network:
        write_bytes(folder / "compose.yaml", compose_file(deployment.sites).encode())

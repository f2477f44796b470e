"""The files that people read or hand to their system: units, scripts, next steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from phoenix_secure import __version__

__all__ = [
    "approve_script",
    "compose_file",
    "next_steps",
    "server_unit",
    "site_unit",
    "start_script",
]

_UNIT = """\
# Copy to /etc/systemd/system/, set User and the paths, then: systemctl enable --now {name}
[Unit]
Description=Phoenix Secure {what}
After=network-online.target
Wants=network-online.target

[Service]
User=phoenix
WorkingDirectory=/srv/phoenix
ExecStart=/srv/phoenix/venv/bin/phoenix-secure {command}
Restart=always
RestartSec=5
KillMode=control-group
TimeoutStopSec=60
Environment=FLWR_TELEMETRY_ENABLED=0
Environment=FLWR_DISABLE_UPDATE_CHECK=1
Environment=FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
UMask=0077
# What one program may take before the system ends it; adjust to the machine (docs/deployment.md).
MemoryHigh=70%
MemoryMax=80%
MemorySwapMax=0
TasksMax=512
LimitNOFILE=4096
# No image, key or update may end up in a core dump.
LimitCORE=0
NoNewPrivileges=yes
PrivateTmp=yes
PrivateMounts=yes
ProtectSystem=strict
ProtectHome={home}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=
AmbientCapabilities=
KeyringMode=private
{devices}RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
ReadWritePaths={writable}

[Install]
WantedBy=multi-user.target
"""


class Named(Protocol):
    """The facts of a deployment that the next steps mention."""

    @property
    def federation(self) -> str: ...
    @property
    def sites(self) -> tuple[str, ...]: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def folder(self) -> str | None: ...


def server_unit() -> str:
    """A systemd unit for the server."""
    return _UNIT.format(
        name="phoenix-secure-server",
        what="server",
        command="server start /srv/phoenix/server",
        writable="/srv/phoenix/server",
        home="yes",
        devices="PrivateDevices=yes\n",
    )


def site_unit() -> str:
    """A systemd unit for a site; the images are better mounted read-only."""
    return _UNIT.format(
        name="phoenix-secure-site",
        what="site",
        command="site start /srv/phoenix/site",
        writable="/srv/phoenix/site",
        home="read-only",
        devices="# A GPU needs its device files: PrivateDevices stays off here.\n",
    )


def start_script(sites: Sequence[str], *, over_network: bool = True) -> str:
    """A shell script that runs server and sites on one machine, for a rehearsal."""
    way, server = "over TLS on the loopback", '"$program" server start server &\n'
    if not over_network:
        way, server = "over a folder", ""
    names = " ".join(sorted(sites))
    program = Path(sys.executable).with_name("phoenix-secure")
    return f"""\
#!/usr/bin/env bash
# Server and all sites on this machine, {way}: a rehearsal, not a deployment.
# Stop with Ctrl-C. PHOENIX_SECURE names the program where it is not on PATH.
set -euo pipefail
cd "$(dirname "$0")"
program="${{PHOENIX_SECURE:-phoenix-secure}}"
command -v "$program" >/dev/null || program={str(program)!r}
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
{server}for site in {names}; do
    "$program" site start "sites/$site" &
done
wait
"""


def approve_script(sites: Sequence[str]) -> str:
    """A shell script in which one person plays every owner; for rehearsals alone."""
    names = " ".join(sorted(sites))
    program = Path(sys.executable).with_name("phoenix-secure")
    return f"""\
#!/usr/bin/env bash
# approve.sh HASH signs the plan for every site. Real owners read it first, on their own machines.
set -euo pipefail
plan="${{1:?the whole hash of the plan, see phoenix-secure site plans}}"
cd "$(dirname "$0")"
program="${{PHOENIX_SECURE:-phoenix-secure}}"
command -v "$program" >/dev/null || program={str(program)!r}
for site in {names}; do
    "$program" site approve "sites/$site" "$plan" --yes
done
"""


_SERVICE = """\
  {name}:
    image: phoenix-secure:{version}
    command: [{command}, /srv/phoenix/{role}]
    volumes: ["./{folder}:/srv/phoenix/{role}"]
    networks: [federation]
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    restart: unless-stopped
"""


def _service(name: str, *, command: str, folder: str) -> str:
    return _SERVICE.format(
        name=name,
        version=__version__,
        command=", ".join(command.split()),
        role=command.split()[0],
        folder=folder,
    )


def compose_file(sites: Sequence[str]) -> str:
    """A compose file: the SuperLink's port is published by nobody, sites see the server alone."""
    services = [_service("server", command="server start", folder="server")]
    services += [
        _service(site, command="site start", folder=f"sites/{site}") for site in sorted(sites)
    ]
    head = (
        "# Written for `deploy init --host server`; set listen: 0.0.0.0 in server/server.yaml.\n"
        "# The image is built from the Dockerfile beside the source; its user has the id 10001,\n"
        "# and so must the folders: chown -R 10001 server sites/*.\n"
    )
    return head + "services:\n" + "".join(services) + "networks:\n  federation: {}\n"


def next_steps(deployment: Named, fingerprint: str) -> str:
    """The next steps of the federation's owner."""
    sites = "\n".join(
        f"- `sites/{site}` to {site}, over a channel that {site} trusts; then delete it here."
        for site in sorted(deployment.sites)
    )
    if deployment.folder is None:
        server = (
            f"2. Bring `server` to the machine that sites reach as "
            f"{deployment.host}:{deployment.port}. Open that\n   port and no other."
        )
        start = (
            "5. Server: `phoenix-secure server start`, then `phoenix-secure doctor --federation` "
            "and\n   `phoenix-secure run ... --federation`."
        )
    else:
        server = (
            "2. Bring `server` to the machine of the server. It needs no open port.\n"
            f"   Messages travel in {deployment.folder} (`folder` in server.yaml and site.yaml; "
            "each\n   party's may lie elsewhere)."
        )
        start = (
            "5. Server: `phoenix-secure doctor --federation`, then `phoenix-secure run ... "
            "--federation`;\n   carry the folder between the parties (docs/deployment.md)."
        )
    return f"""\
# Federation {deployment.federation}

For rehearsals and trials: `deploy init` has seen the keys of every party. Between real owners each
makes its own (`phoenix-secure deploy found --help`, docs/deployment.md).

Roster fingerprint, to be compared by telephone with every site (`phoenix-secure site show`):

    {fingerprint}

1. Take `owner/owner.key` away (a USB stick in a safe). It signed the roster and is not needed
   for running.
{server}
3. Bring each site its own folder, and nothing else:
{sites}
4. Each site: compare the fingerprint, set `data` and `policy` in site.yaml, move `approver.key`
   to whoever owns the images, and run `phoenix-secure site start`.
{start}
6. Each owner reads the offered plan (`phoenix-secure site plans`) and signs it
   (`phoenix-secure site approve`, which shows it again and asks), or does not.
"""

"""Parties on one machine, each with its own network namespace, user, file root and firewall.

Nothing here knows Phoenix Secure but the command that a party types. The addresses are those that
RFC 5737 and RFC 3849 keep for examples; all parties hang on one bridge.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hosts_namespaces import REPOSITORY, cover_closed_folders, quiet

__all__ = ["Parties", "Party"]

_FIRST_UID = 61_001
_SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - looked through, not written
_PACKAGES = ("phoenix_secure", "protocol", "attacks")
# Bind mounts of the party's own: they end with its command.
_ENTER = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
_FIREWALL = """table inet party {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    {rule}
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Party:
    """One party: ``number`` is the last part of its addresses."""

    name: str
    number: int
    root: Path

    @property
    def uid(self) -> int:
        return _FIRST_UID + self.number

    @property
    def v4(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def v6(self) -> str:
        return f"2001:db8::{self.number:x}"

    @property
    def hosts_file(self) -> Path:
        return self.root.parent.parent / "hosts" / self.name

    def give(self, path: Path) -> None:
        """Make ``path`` the party's own."""
        os.chown(path, self.uid, self.uid)


@dataclass
class Parties:
    """Those that were added, below ``out``; call it in the namespaces of ``run_inside``.

    carried   (file, sender, receiver) of every file that people carried
    """

    out: Path
    carried: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _parties: dict[str, Party] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Network namespaces have names here alone, and so have users.
        quiet("mount", "-t", "tmpfs", "tmpfs", "/run")
        for name in ("roots", "hosts", "post", "etc"):
            (self.out / name).mkdir(mode=0o755)
        self._create_users()
        needed = [Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
        for folder in cover_closed_folders(needed, stage=self.out / "etc" / "stage"):
            self.notes.append(f"{folder} is root's alone: parties see nothing in it but Python")
        # Parties cannot write into the checkout, and would compile it at every command.
        quiet(sys.executable, "-m", "compileall", "-q", *(REPOSITORY / each for each in _PACKAGES))
        quiet("ip", "link", "set", "lo", "up")
        quiet("ip", "link", "add", "name", "switch", "type", "bridge")
        quiet("ip", "link", "set", "switch", "up")
        if shutil.which("nft") is None:
            self.notes.append("no firewall: nft is not installed")

    def _create_users(self) -> None:
        for name, line in (
            ("passwd", "party-{0}:x:{1}:{1}::{2}:/bin/sh\n"),
            ("group", "party-{0}:x:{1}:\n"),
        ):
            system, own = Path("/etc") / name, self.out / "etc" / name
            taken = system.read_text()
            uids = [_FIRST_UID + number for number in range(32)]
            if any(f":{uid}:" in taken for uid in uids):
                raise RuntimeError(f"{system} has users from {uids[0]} to {uids[-1]} already")
            own.write_text(
                taken + "".join(line.format(n, uid, self.out) for n, uid in enumerate(uids))
            )
            quiet("mount", "--bind", own, system)

    def __getitem__(self, name: str) -> Party:
        return self._parties[name]

    @property
    def all(self) -> tuple[Party, ...]:
        return tuple(self._parties.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parties)

    def left_elsewhere(self) -> dict[str, Path]:
        """Files of parties' users outside of their roots, where every user may write."""
        uids = {party.uid: party.name for party in self.all}
        found = {}
        for folder in map(Path, _SHARED):
            for path in folder.rglob("*") if folder.is_dir() else ():
                is_ours = self.out in path.parents or path.is_symlink() or not path.is_file()
                if not is_ours and (owner := uids.get(path.stat().st_uid)):
                    found[f"{path} of {owner}"] = path
        return found

    def add(self, *names: str, opens: int | None = None, is_connected: bool = True) -> None:
        """Make parties; ``opens`` is the one port that others reach at them."""
        for name in names:
            number = len(self._parties) + 1
            party = Party(name=name, number=number, root=self.out / "roots" / name)
            self._parties[name] = party
            for folder in (party.root, party.root / "tmp"):
                folder.mkdir(mode=0o700)
                party.give(folder)
            party.hosts_file.write_text("127.0.0.1 localhost\n::1 localhost\n")
            quiet("ip", "netns", "add", name)
            self.inside(name, "ip", "link", "set", "lo", "up")
            if is_connected:
                self._connect(party)
            rule = "" if opens is None else f"tcp dport {opens} accept"
            self.firewall(name, rule)

    def _connect(self, party: Party) -> None:
        quiet(
            *("ip", "link", "add", "name", party.name[:15], "type", "veth"),
            *("peer", "name", "net", "netns", party.name),
        )
        quiet("ip", "link", "set", party.name[:15], "master", "switch", "up")
        self.inside(party.name, "ip", "addr", "add", f"{party.v4}/24", "dev", "net")
        self.inside(party.name, "ip", "addr", "add", f"{party.v6}/64", "dev", "net", "nodad")
        self.inside(party.name, "ip", "link", "set", "net", "up")

    def inside(self, name: str, *command: object, stdin: str | None = None) -> str:
        """A command of the system as root in the network namespace of a party."""
        return quiet("ip", "netns", "exec", name, *command, stdin=stdin)

    def firewall(self, name: str, rule: str = "") -> None:
        """Let in answers, and what ``rule`` (nftables) says."""
        if shutil.which("nft") is not None:
            self.inside(name, "nft", "flush", "ruleset")
            self.inside(name, "nft", "-f", "-", stdin=_FIREWALL.format(rule=rule))

    def opened_by(self, name: str) -> tuple[str, ...]:
        """Whose file roots the user of a party can look into."""
        roots = {str(party.root): party.name for party in self.all}
        look = 'for root; do ls "$root" > /dev/null 2>&1 && echo "$root"; done; true'
        told = quiet(*self.command(name, ["sh", "-c", look, "sh", *roots]))
        return tuple(roots[line] for line in told.splitlines())

    def cable(self, name: str, *, plugged: bool) -> None:
        """Pull the cable of a party, or plug it in again."""
        quiet("ip", "link", "set", name[:15], "up" if plugged else "down")

    def resolve(self, host: str, address: str, *names: str) -> None:
        """Let ``names`` (everybody) find ``host`` at ``address`` alone."""
        for party in [self[name] for name in names] or self.all:
            lines = party.hosts_file.read_text().splitlines()
            kept = [line for line in lines if line.split()[1] != host]
            party.hosts_file.write_text("\n".join([*kept, f"{address} {host}"]) + "\n")

    def command(self, name: str, arguments: Sequence[object]) -> list[str]:
        """What runs ``arguments`` as the user of a party in its namespace, without privileges."""
        party = self[name]
        return [
            *("ip", "netns", "exec", name, "sh", "-c", _ENTER, "sh", str(party.hosts_file)),
            *("setpriv", f"--reuid={party.uid}", f"--regid={party.uid}", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"),
            *map(str, arguments),
        ]

    def environment(self, name: str) -> dict[str, str]:
        """All variables that a party's programs get."""
        root = str(self[name].root)
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": root,
            "TMPDIR": f"{root}/tmp",  # noqa: S108 - the party's own
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "300",
            "NO_COLOR": "1",
        }

    def type(
        self,
        name: str,
        *arguments: object,
        typed: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``phoenix-secure ARGUMENTS`` as a party types it in its root."""
        return subprocess.run(  # noqa: S603 - a list of arguments
            self.command(name, _phoenix(arguments, variables)),
            cwd=self[name].root,
            env=self.environment(name),
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(
        self, name: str, *arguments: object, log: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """The same, and go on; output goes to the file ``log`` in the party's root."""
        path = self[name].root / log
        with path.open("ab") as output:
            self[name].give(path)
            return subprocess.Popen(  # noqa: S603 - a list of arguments
                self.command(name, _phoenix(arguments, variables)),
                cwd=self[name].root,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def carry(
        self, path: str, *, sender: str, receiver: str, to: str = "", without: str = ""
    ) -> None:
        """A file, or a folder but for ``without``, from one to another; the post keeps a copy."""
        source = self[sender].root / path
        target = self[receiver].root / (to or source.name)
        post = self.out / "post" / f"{len(self.carried):03d}-{sender}-{receiver}"
        for place in (target, post / source.name):
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns(without))
            else:
                shutil.copyfile(source, place)
        for each in (target, *target.rglob("*")):
            self[receiver].give(each)
        self.carried.append((path, sender, receiver))


def _phoenix(arguments: Sequence[object], variables: Mapping[str, str] | None) -> list[object]:
    """The command as its own user sets variables for it: a preloaded library is not for root."""
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    return [*("env", *given), sys.executable, "-m", "phoenix_secure", *arguments]

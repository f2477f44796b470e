"""The facts of a deployment: who takes part, and where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.hosts import canonical_host, host_port
from protocol import SERVER
from protocol.encoding import is_id
from protocol.parameters import MIN_CLIENTS, MIN_HONEST
from protocol.suite import Suite

__all__ = ["Deployment", "numbered_sites", "superlink_port_beside"]

_FIRST_SUPERNODE_PORT = 9100
_SUPERLINK_PORT = 9093


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """A deployment that is set up, by one person or by all parties together.

    host             name or address under which sites reach the server; kept as
                     ``hosts.canonical_host`` has it
    port             port of the Fleet proxy
    superlink_port   loopback port of the SuperLink on the server
    rehearsal        sites take shares of a public data set, on this machine
    days             how long the TLS certificate holds
    folder           in which messages travel, in place of the network; None: the network
    suite            of the keys in the roster, and of the federation's secure rounds
    """

    federation: str
    sites: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 9443
    superlink_port: int = _SUPERLINK_PORT
    first_supernode_port: int = _FIRST_SUPERNODE_PORT
    rehearsal: bool = False
    days: int = 365
    suite: str = Suite.CLASSICAL.value
    folder: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "host", canonical_host(self.host))
        except ValueError as error:
            raise ConfigError(f"--host {error}") from error
        for name in (self.federation, *self.sites):
            if not is_id(name) or len(name) > 46:
                raise ConfigError(
                    f"name {name!r}: use 1 to 46 letters, digits, '.', '_' or '-', "
                    "starting with a letter or digit"
                )
        if len(set(self.sites)) != len(self.sites) or SERVER in self.sites:
            raise ConfigError(f"sites need different names, none of them {SERVER!r}")
        if not self.sites:
            raise ConfigError("a federation needs at least one site: give --sites or --site")
        last_port = self.first_supernode_port + len(self.sites) - 1
        ports = (self.port, self.superlink_port, self.first_supernode_port, last_port)
        if not all(1 <= port <= 65_535 for port in ports) or self.port == self.superlink_port:
            raise ConfigError("ports must be different and between 1 and 65535")
        if self.suite not in {suite.value for suite in Suite}:
            raise ConfigError(f"--suite must be classical or hybrid_pq, got {self.suite!r}")
        if not 1 <= self.days <= 3660:
            raise ConfigError(f"--days must be between 1 and 3660, got {self.days}")

    @property
    def address(self) -> str:
        """``HOST:PORT`` as sites connect to it."""
        return host_port(self.host, self.port)

    @property
    def is_small(self) -> bool:
        """Whether secure rounds are possible only without the assumption of a colluder."""
        return MIN_HONEST <= len(self.sites) < MIN_CLIENTS

    @property
    def warning(self) -> str | None:
        """A warning to the federation's owner before anything is handed over."""
        if len(self.sites) >= MIN_CLIENTS:
            return None
        if self.is_small:
            return (
                f"fewer than {MIN_CLIENTS} sites: a sum hides an update only if no site works with "
                "the server or with another site. Secure rounds are refused unless the plan says "
                "secure_aggregation.collusion=0 and every site's policy allow_no_colluders: true "
                "(docs/deployment.md)"
            )
        return (
            f"fewer than {MIN_CLIENTS} sites: secure rounds are refused, since a sum would hide an "
            "update among too few (docs/deployment.md)"
        )


def numbered_sites(count: int) -> Sequence[str]:
    """``site-01`` ... for ``--sites COUNT``."""
    width = max(2, len(str(count)))
    return [f"site-{number:0{width}d}" for number in range(1, count + 1)]


def superlink_port_beside(port: int) -> int:
    """A loopback port for the SuperLink of a server whose Fleet proxy has ``port``."""
    return _SUPERLINK_PORT if port != _SUPERLINK_PORT else _SUPERLINK_PORT + 1

"""What a federation's owner settles before anybody joins: ``federation.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from phoenix_secure.config.faults import explain
from phoenix_secure.config.section import Section
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.hosts import canonical_host
from phoenix_secure.federation.deployment.join_request import JoinRequest
from phoenix_secure.federation.deployment.site_settings import Id, Port
from protocol.suite import Suite

__all__ = ["FederationSettings", "federation_settings"]


class FederationSettings(Section):
    """Name, suite, and where the parties meet."""

    federation: Id = Field(description="[name] The federation's name.")
    host: Annotated[str, AfterValidator(canonical_host)] = Field(
        "127.0.0.1", description="[host] Name or address under which sites reach the server."
    )
    port: Port = Field(9443, description="[port] Port of the server's Fleet proxy.")
    folder: str | None = Field(
        None, description="[path] In place of the network: the folder that messages travel in."
    )
    suite: Suite = Field(Suite.CLASSICAL, description="[name] Of every key: classical, hybrid_pq.")

    def require_fit(self, request: JoinRequest) -> None:
        """Refuse a request for another federation, suite, host or port.

        Raises:     ConfigError naming both sides and what to do.
        """
        party = request.party
        if request.federation != self.federation:
            raise ConfigError(
                f"{party} asks to join the federation {request.federation!r}, and this one is "
                f"{self.federation!r}: ask it to make its keys with that name"
            )
        if request.suite is not self.suite:
            raise ConfigError(
                f"{party} has keys of the suite {request.suite.value}, and this federation's is "
                f"{self.suite.value}: ask it to make them with --suite {self.suite.value}"
            )
        meeting = (self.host, self.port)
        if request.is_server and (request.host, request.port) != meeting:
            raise ConfigError(
                f"the server asks to be reached at {request.host}:{request.port}, and "
                f"federation.yaml says {self.host}:{self.port}: ask it to make its keys "
                f"with --host {self.host} --port {self.port}, or found another federation"
            )


def federation_settings(**settings: object) -> FederationSettings:
    """Settings as they were typed.

    Raises:     ConfigError naming the setting.
    """
    try:
        return FederationSettings.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, of=FederationSettings)) from error

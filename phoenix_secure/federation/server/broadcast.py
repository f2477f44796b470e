"""What the server tells the sites at both ends of a round, around the protocol's own messages.

``SentModel`` sends a model that sites have to believe. ``server/model_chain.py`` sends each round's
sum, from which every site computes the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from phoenix_secure.federation.round.messages import SecureTrainRequest, TrainRequest
from phoenix_secure.federation.round.state import ServerState
from protocol.events import RoundCompleted

__all__ = ["Broadcast", "SentModel"]


class Broadcast(Protocol):
    """The two ends of one attempt at one training round."""

    def offers(self, announcement: bytes, *, asked: tuple[str, ...]) -> dict[str, bytes]:
        """The bodies of the first stage."""
        ...

    def heard(self, site: str, failure: str | None) -> None:
        """Told of each answer to the offers: None, or the code in its place."""
        ...

    def results(self, completed: RoundCompleted, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        """The bodies of the last stage, around the protocol's own; none for a useless sum."""
        ...

    def confirmed(self, site: str, reply: bytes) -> None:
        """Take an answer to the last stage.

        Raises:     RemoteProtocolError naming the site.
        """
        ...

    def missing(self) -> int:
        """How many more confirmations the round needs."""
        ...

    def finish(
        self, completed: RoundCompleted, *, bytes_down: int, bytes_up: int
    ) -> ServerState | None:
        """The next state, where the sites confirmed one; the round took so many bytes."""
        ...


class SentModel:
    """The model of ``request`` goes to every site, which has to believe it."""

    def __init__(self, request: TrainRequest) -> None:
        self._model = request.to_bytes()

    def offers(self, announcement: bytes, *, asked: tuple[str, ...]) -> dict[str, bytes]:
        body = SecureTrainRequest(announcement=announcement, model=self._model).to_bytes()
        return dict.fromkeys(asked, body)

    def heard(self, site: str, failure: str | None) -> None:
        pass

    def results(self, completed: RoundCompleted, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        return dict(messages)

    def confirmed(self, site: str, reply: bytes) -> None:
        pass

    def missing(self) -> int:
        return 0

    def finish(self, completed: RoundCompleted, *, bytes_down: int, bytes_up: int) -> None:
        return None

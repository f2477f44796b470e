"""The coordinates that travel in a round: those the server sends, and those a site answers with.

The server always keeps the whole vector (d,). It sends the coordinates that are nobody's personal
ones (s,), and a site answers with those of the round's part (u,), padded to one length for all
rounds, so that the terms of secure aggregation are the same from the first round to the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import ExchangeConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.heterogeneity.selection import Layout, select

__all__ = ["Exchange", "plan_exchange", "whole_exchange"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exchange:
    """The coordinates of each kind, ascending.

    Shape:      personal (d,) bool; parts: index arrays (u_i,), taken in turn from round 1 on.
    Guarantee:  no part holds a personal coordinate; together they hold all others, once each.
    """

    personal: np.ndarray
    parts: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        travelling = np.sort(np.concatenate(self.parts))
        if not np.array_equal(travelling, np.flatnonzero(~self.personal)):
            raise ValueError("expected parts that hold every shared coordinate once")

    @property
    def num_parameters(self) -> int:
        """d, the whole network."""
        return int(self.personal.size)

    @property
    def num_personal(self) -> int:
        """Parameters that stay at a site."""
        return int(self.personal.sum())

    @property
    def num_uploaded(self) -> int:
        """Parameters of one answer: the largest part."""
        return max(part.size for part in self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether every parameter travels in every round."""
        return self.num_uploaded == self.num_parameters

    def part(self, round_number: int) -> np.ndarray:
        """The coordinates (u,) that sites answer with in ``round_number`` (1-based)."""
        return self.parts[(round_number - 1) % len(self.parts)]

    def to_sites(self, vector: np.ndarray) -> np.ndarray:
        """The coordinates of ``vector`` that the server sends: (d,) -> (s,)."""
        shared: np.ndarray = vector[~self.personal]
        return shared

    def complete(self, shared: np.ndarray, *, personal: np.ndarray) -> np.ndarray:
        """The vector that a site trains: (s,) and (d - s,) -> (d,) float32.

        Raises:     ValueError for other sizes.
        """
        sizes = shared.size, personal.size
        if sizes != (self.num_parameters - self.num_personal, self.num_personal):
            raise ValueError(f"expected shared and personal parameters, got sizes {sizes}")
        whole = np.empty(self.num_parameters, np.float32)
        whole[~self.personal] = shared
        whole[self.personal] = personal
        return whole

    def to_server(self, delta: np.ndarray, *, round_number: int) -> np.ndarray:
        """A site's answer from its change ``delta``: (d,) -> (num_uploaded,), zeros at the end.

        Guarantee:  no personal coordinate of ``delta`` enters the result.
        """
        part = self.part(round_number)
        answer = np.zeros(self.num_uploaded, delta.dtype)
        answer[: part.size] = delta[part]
        return answer

    def from_sites(self, answer: np.ndarray, *, round_number: int) -> np.ndarray:
        """The mean update as a change of the whole vector: (num_uploaded,) -> (d,).

        Guarantee:  zero at personal coordinates and those of other rounds' parts.
        """
        part = self.part(round_number)
        update = np.zeros(self.num_parameters, answer.dtype)
        update[part] = answer[: part.size]
        return update


def plan_exchange(settings: ExchangeConfig, layout: Layout) -> Exchange:
    """The exchange that ``settings`` ask for.

    ``alternate`` is USplit of de Goede et al. (2024, arXiv:2406.12575) in time instead of over
    sites: a split over sites would halve the crowd that each sum hides in. Every site answers with
    the encoder, the middle and the embeddings in odd rounds, with the decoder in even ones.

    Raises:     ConfigError for a pattern without a parameter, or when nothing would travel.
    """
    personal = select(layout, settings.personal, setting="exchange.personal")
    shared = ~personal
    parts = [shared]
    if settings.upload == "alternate":
        decoder = select(layout, ("decoder",), setting="exchange.upload")
        parts = [shared & ~decoder, shared & decoder]
    if not all(part.any() for part in parts):
        raise ConfigError(
            "exchange.personal leaves nothing to exchange: name fewer parameters, or set "
            "exchange.upload=all"
        )
    return Exchange(personal=personal, parts=tuple(np.flatnonzero(part) for part in parts))


def whole_exchange(num_words: int) -> Exchange:
    """Every one of ``num_words`` coordinates travels in every round."""
    return Exchange(personal=np.zeros(num_words, bool), parts=(np.arange(num_words),))

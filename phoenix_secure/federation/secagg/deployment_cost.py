"""What a plan would cost between machines, by each way of exchanging what sites learn.

A round between machines takes 8 to 10 s, nearly all of it polling (docs/deployment.md, "Faults,
measured"); its bytes come on top. What sites compute meanwhile is the same by any way and is
not counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from phoenix_secure.config import RunConfig

__all__ = ["Advice", "Cost", "Exchange", "advise"]

ROUND_S = 10.0
LINK_BYTES_PER_S = 1.25e6  # 10 Mbit/s, the uplink of a small office
_STEPS = 1000  # of a run whose settings name none
_LOCAL_STEPS = 20
_SHORT_S = 3600.0


class Exchange(StrEnum):
    """What travels: features once, what some local steps changed, or every step's gradient."""

    RELEASE = "release"
    UPDATES = "updates"
    GRADIENTS = "gradients"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one whole run between machines; ``hours`` of waiting and sending alone."""

    rounds: int
    megabytes_per_site: float
    hours: float

    @property
    def text(self) -> str:
        time = f"{self.hours:.1f} h" if self.hours >= 1 else f"{60 * self.hours:.1f} min"
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds:,} rounds"
        return f"{rounds}, {self.megabytes_per_site:,.1f} MB a site, {time} of waiting and sending"


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Costs by exchange, the recommended one, and why."""

    costs: dict[Exchange, Cost]
    recommended: Exchange
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "costs": {exchange.value: asdict(cost) for exchange, cost in self.costs.items()},
            "recommended": self.recommended.value,
            "why": self.why,
        }


def advise(config: RunConfig, *, num_parameters: int, num_words: int) -> Advice:
    """Compare the exchanges at as many steps as the settings take.

    num_parameters   of the diffusion model that updates or gradients are of
    num_words        of a release

    Guarantee:  the advice follows from the settings alone; no image is looked at.
    """
    local = config.training.local_steps or _LOCAL_STEPS
    steps = config.federation.rounds * local
    if config.release.is_on:
        steps, local = _STEPS, _LOCAL_STEPS
    elif config.federation.exchange == "gradients" or local == 1:
        local = _LOCAL_STEPS
    word_bytes = config.secure_aggregation.word_bits / 8
    costs = {
        Exchange.RELEASE: _cost(1, num_words, word_bytes=4),
        Exchange.UPDATES: _cost(-(-steps // local), num_parameters, word_bytes=word_bytes),
        Exchange.GRADIENTS: _cost(steps, num_parameters, word_bytes=word_bytes),
    }
    recommended, why = _choice(config, gradients=costs[Exchange.GRADIENTS], local=local)
    return Advice(costs=costs, recommended=recommended, why=why)


def _cost(rounds: int, num_words: int, *, word_bytes: float) -> Cost:
    size = 2 * num_words * word_bytes  # up, and down again
    return Cost(
        rounds=rounds,
        megabytes_per_site=rounds * size / 1e6,
        hours=rounds * (ROUND_S + size / LINK_BYTES_PER_S) / 3600,
    )


def _choice(config: RunConfig, *, gradients: Cost, local: int) -> tuple[Exchange, str]:
    if config.privacy.unit == "record":
        return (
            Exchange.RELEASE,
            "one noised sum costs far less noise than hundreds of noised steps, skew between sites "
            "does not matter to it, and it is one round",
        )
    if config.privacy.unit == "site":
        return Exchange.UPDATES, "each round is noised in full: few rounds of many local steps"
    if config.partition.scheme != "iid" and 3600 * gradients.hours <= _SHORT_S:
        return (
            Exchange.GRADIENTS,
            "sites that differ drift apart between two sums of updates; a round a step avoids it, "
            "and so many take less than an hour",
        )
    return (
        Exchange.UPDATES,
        f"{local} local steps a round need {local} times fewer rounds than gradients; choose those "
        "where sites differ much and the network is quick",
    )

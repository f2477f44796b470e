"""Events of private mechanisms, apart from any way to account for them.

Ledgers keep events, and accountants read them. An accountant that does not know an event refuses
it. A kind of event is never redefined, so that an old ledger keeps its meaning.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "Adjacency",
    "DiscreteGaussianSum",
    "Event",
    "PoissonSampledGaussian",
    "RecordKind",
    "SkellamSum",
    "event_from_dict",
    "event_to_dict",
    "least_share_variance",
    "merge",
    "repeated",
    "unit_of",
]


class Adjacency(enum.StrEnum):
    """The difference between two neighbouring data sets.

    ADD_OR_REMOVE_ONE   one of them has one record (or party) more
    REPLACE_ONE         one record (or party) of the one is another in the other
    """

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"


# One record: an image, or all images of one person. Figures are of either kind, and never of both.
RecordKind = Literal["record", "group"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoissonSampledGaussian:
    """``steps`` sums of clipped gradients with Gaussian noise, each over a Poisson sample.

    sampling_rate      q: each record is in a step's sample with this probability, by itself;
                       1 is the Gaussian mechanism on all records
    noise_multiplier   z: standard deviation of the noise over the sum's L2 sensitivity
    unit               what one record is; unwritten where it is an image
    Source:            Abadi et al. (2016), arXiv:1607.00133, Algorithm 1.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int
    unit: RecordKind = "record"

    def __post_init__(self) -> None:
        _require_kind(self.unit)
        _require_real("sampling_rate", self.sampling_rate, low=0.0, high=1.0)
        _require_real("noise_multiplier", self.noise_multiplier, low=0.0, high=1e9)
        _require_count("steps", self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class SkellamSum:
    """``releases`` sums of integer vectors (d,) with Skellam noise, everybody taking part.

    num_words        d
    l2_sensitivity   D2: largest L2 norm of the vector that one neighbour adds or removes
    variance         of the honest parties' noise in one coordinate of the sum
    Source:          Agarwal, Kairouz and Liu (2021), arXiv:2110.04995.
    """

    num_words: int
    l2_sensitivity: float
    variance: float
    releases: int

    def __post_init__(self) -> None:
        _require_count("num_words", self.num_words)
        _require_real("l2_sensitivity", self.l2_sensitivity, low=0.0, high=2.0**62)
        _require_real("variance", self.variance, low=0.0, high=2.0**124)
        _require_count("releases", self.releases)

    @property
    def l1_sensitivity(self) -> float:
        """D1 <= min(D2^2, sqrt(d) D2): the coordinates are whole numbers."""
        return min(self.l2_sensitivity**2, math.sqrt(self.num_words) * self.l2_sensitivity)


# Variance that a continuous Gaussian gives up to become a discrete one (see below).
_SMOOTHING = 16.0
_LEAST_SHARE = 64.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscreteGaussianSum:
    """``steps`` sums of integer vectors (d,), each over a Poisson sample of the records, with
    discrete Gaussian noise of many parties.

    num_words        d
    sampling_rate    q, as for ``PoissonSampledGaussian``; 1 is a full pass
    l2_sensitivity   D2: largest L2 norm of the integer vector that one record adds
    share_variance   v of one party's share in one coordinate, at least 64
    num_shares       m: shares in every sum whose makers keep them to themselves
    unit             as for ``PoissonSampledGaussian``

    Guarantee (``gaussian``):  it spends at most what the continuous Gaussian mechanism of variance
    m v - 16 spends on the same integer vectors, but for 2^-300 in epsilon and, relatively, delta.

    Proof. Let rho_s(x) = exp(-x^2 / (2 s^2)). By Poisson summation, for every real c,
    rho_s(Z + c) = s sqrt(2 pi) (1 + e) with |e| <= 2.1 exp(-2 pi^2 s^2). Take y from N(u, b^2) with
    a whole u, then z in Z with chances rho_a(z - y) / rho_a(Z - y), a = 4. The chance of z is the
    integral of both; but for (1 + e) of the divisor it is the density of N(u, a^2 + b^2) at z, and
    so, but for (1 + e) of its own divisor, the chance of u + N_Z(0, a^2 + b^2). Hence the discrete
    mechanism is the continuous one of variance b^2, post-processed without looking at the data:
    a^2 = 16, and each coordinate's chances are off by a factor within 1 +- 5 exp(-32 pi^2). The sum
    of m shares is N_Z(0, m v) in each coordinate but for a factor of exp(+-tau), tau =
    10 sum_{k<m} exp(-2 pi^2 v k / (k + 1)) <= 10 m exp(-64 pi^2): adding share k + 1 multiplies the
    chance of z by rho_s(Z + c) with s^2 = v k / (k + 1), which hardly depends on c, hence on z.
    Over 2^62 coordinates and as many steps both stay below 2^-300. Shares of further parties are
    independent noise on top.

    Source: Peikert (2010), eprint 2010/088, Theorem 3.1 (convolution); Kairouz, Liu and Steinke
    (2021), arXiv:2102.06387 (sums of shares, with this tau).
    """

    num_words: int
    sampling_rate: float
    l2_sensitivity: float
    share_variance: float
    num_shares: int
    steps: int
    unit: RecordKind = "record"

    def __post_init__(self) -> None:
        _require_kind(self.unit)
        _require_count("num_words", self.num_words)
        _require_real("sampling_rate", self.sampling_rate, low=0.0, high=1.0)
        _require_real("l2_sensitivity", self.l2_sensitivity, low=0.0, high=2.0**62)
        _require_real("share_variance", self.share_variance, low=_LEAST_SHARE / 2, high=2.0**62)
        if self.share_variance < _LEAST_SHARE:
            raise ValueError(f"expected share_variance >= 64, got {self.share_variance!r}")
        _require_count("num_shares", self.num_shares)
        _require_count("steps", self.steps)

    @property
    def gaussian(self) -> PoissonSampledGaussian:
        """The mechanism that spends as much as this one, or more."""
        variance = self.num_shares * self.share_variance - _SMOOTHING
        return PoissonSampledGaussian(
            sampling_rate=self.sampling_rate,
            noise_multiplier=math.sqrt(variance) / self.l2_sensitivity,
            steps=self.steps,
            unit=self.unit,
        )


def least_share_variance(*, noise_multiplier: float, l2_sensitivity: float, num_shares: int) -> int:
    """The least whole v for which a ``DiscreteGaussianSum`` of ``num_shares`` shares spends no more
    than a Gaussian of ``noise_multiplier``."""
    exact = ((noise_multiplier * l2_sensitivity) ** 2 + _SMOOTHING) / num_shares
    share = max(math.ceil(exact), math.ceil(_LEAST_SHARE))
    # Float64 rounds: one step more where it came out below.
    while math.sqrt(num_shares * share - _SMOOTHING) / l2_sensitivity < noise_multiplier:
        share += max(1, share >> 50)
    return share


Event = PoissonSampledGaussian | SkellamSum | DiscreteGaussianSum

_KINDS: dict[str, type[PoissonSampledGaussian] | type[SkellamSum] | type[DiscreteGaussianSum]] = {
    "poisson-sampled-gaussian": PoissonSampledGaussian,
    "discrete-gaussian-sum": DiscreteGaussianSum,
    "skellam-sum": SkellamSum,
}


def unit_of(event: Event) -> str:
    """The unit that the event's epsilon is about: ``record``, ``group`` or ``site``."""
    return "site" if isinstance(event, SkellamSum) else event.unit


def event_to_dict(event: Event) -> dict[str, Any]:
    """Plain values; ``json.dumps`` with sorted keys makes them canonical."""
    kind = next(name for name, each in _KINDS.items() if type(event) is each)
    values = {"kind": kind, **dataclasses.asdict(event)}
    if values.get("unit") == "record":
        del values["unit"]  # ledgers from before there were others say so by silence
    return values


def event_from_dict(values: Mapping[str, Any]) -> Event:
    """Read an event that ``event_to_dict`` wrote.

    Raises:     ValueError for an unknown kind, a missing or extra field, or a value out of range.
    """
    kind = values.get("kind")
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError("expected a known kind of privacy event")
    fields = {name: value for name, value in values.items() if name != "kind"}
    optional = {field.name for field in dataclasses.fields(cls)} & {"unit"}
    if fields.keys() | optional != {field.name for field in dataclasses.fields(cls)}:
        raise ValueError(f"expected exactly the fields of {kind}")
    return cls(**fields)


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same composition in fewer events: equal ones are counted together.

    Guarantee:  sorted, so that the same events in any order give the same tuple.

    >>> one = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=3)
    >>> merge([one, one])[0].steps
    6
    """
    counts: dict[Event, int] = {}
    for event in events:
        single = _repeated(event, 1)
        counts[single] = counts.get(single, 0) + _count(event)
    merged = [_repeated(single, count) for single, count in counts.items()]
    return tuple(sorted(merged, key=repr))


def repeated(event: Event, count: int) -> tuple[Event, ...]:
    """``count`` releases of ``event`` as at most one event; none of 0.

    >>> one = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=3)
    >>> repeated(one, 2)[0].steps
    6
    """
    return (_repeated(event, count * _count(event)),) if count else ()


def _repeated(event: Event, count: int) -> Event:
    if isinstance(event, SkellamSum):
        return dataclasses.replace(event, releases=count)
    if isinstance(event, PoissonSampledGaussian | DiscreteGaussianSum):
        return dataclasses.replace(event, steps=count)
    raise ValueError("expected a known kind of privacy event")


def _count(event: Event) -> int:
    return event.releases if isinstance(event, SkellamSum) else event.steps


def _require_kind(unit: object) -> None:
    if unit not in ("record", "group"):
        raise ValueError(f"expected unit record or group, got {unit!r}")


def _require_real(name: str, value: object, *, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and low < value <= high):  # type: ignore[operator]
        raise ValueError(f"expected {low:g} < {name} <= {high:g}, got {value!r}")


def _require_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 62:
        raise ValueError(f"expected {name} to be a whole number >= 1, got {value!r}")

"""How many sites must survive, and how many may collude: the choice of t and of the graph.

On the complete graph t = floor((n + c) / 2) + 1: two quorums of t then share more than c sites,
so at least one honest site would have to sign two different survivor sets, which it never does.
The sum hides each honest input among at least t - c others, and t - c >= 3 is demanded.

Three or four sites can only do without the assumption that one of them works with the server:
c = 0 and t = 3. Two quorums then share 2t - n >= 2 sites, so that even one site that lies after all
cannot sign two survivor sets into being; but the sum hides among two with it, not among three.

On a k-regular graph every site shares with k neighbours only. It is declared weaker: its
guarantees hold but for a small probability, against servers that do not choose the graph.

Source: Bonawitz et al. (2017), eprint 2017/281, section 6.2 (the quorum argument); Bell et al.
(2020), eprint 2020/704, section 3 (the conditions on k and t, in ``regular_graph``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from protocol.regular_graph import RegularGraph, search

__all__ = [
    "MAX_COMPLETE",
    "MIN_CLIENTS",
    "MIN_HONEST",
    "CompleteGraph",
    "choose",
    "highest_threshold",
    "max_input",
    "num_colluders",
    "skellam_tail",
    "threshold",
]

# Beyond it the k masks of each site and the n^2 shares cost more than they protect.
MAX_COMPLETE = 128
# The fewest inputs a sum must hide among, and the fewest sites for which that is possible while one
# of them may work with the server.
MIN_HONEST = 3
MIN_CLIENTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteGraph:
    """Everybody shares masks with everybody: the default, up to 128 sites.

    num_clients      n, sites in the cohort
    num_colluders    c, sites that may work with the server
    threshold        t, shares that rebuild a secret and signatures that unlock a sum
    max_dropouts     n - t, sites that may vanish
    """

    num_clients: int
    num_colluders: int
    threshold: int

    @property
    def max_dropouts(self) -> int:
        return self.num_clients - self.threshold

    @property
    def quorum(self) -> int:
        """The sites of every sum: as many as rebuild a secret."""
        return self.threshold

    @property
    def num_honest(self) -> int:
        """The fewest honest inputs in any sum: t - c."""
        return self.threshold - self.num_colluders


def num_colluders(roster_size: int, *, gamma: float) -> int:
    """c = max(1, ceil(gamma * N)) for a roster of N sites, gamma read as the decimal it is.

    Counted on the roster whatever the cohort: all colluders may be in one cohort, by the draw's
    chance or by the server's choice. Zero only for gamma = 0 in a roster below five, which could
    not hide a sum otherwise.

    >>> num_colluders(30, gamma=0.1), num_colluders(64, gamma=1 / 3), num_colluders(5, gamma=0.0)
    (3, 22, 1)
    >>> num_colluders(4, gamma=0.0)
    0
    """
    counted = _ceil_fraction(roster_size, gamma, "gamma")
    return counted if roster_size < MIN_CLIENTS else max(1, counted)


def threshold(num_clients: int, num_colluders: int) -> int:
    """t = floor((n + c) / 2) + 1 for the complete graph; 3 for three or four clients with c = 0.

    Guarantee:  two sets of t sites share more than c; t - c >= 3.
    Raises:     ValueError where n < 5 (n < 3 with c = 0), c < 1 with n >= 5, or so many collude
                that t - c < 3 or t > n.

    >>> threshold(64, 7), threshold(3, 0)
    (36, 3)
    """
    n, c = num_clients, num_colluders
    if c == 0 and MIN_HONEST <= n < MIN_CLIENTS:
        return MIN_HONEST
    if n < MIN_CLIENTS:
        raise ValueError(
            f"expected at least {MIN_CLIENTS} clients, or {MIN_HONEST} of which none works with "
            f"the server, got {n}"
        )
    if c < 1:
        raise ValueError(f"expected num_colluders >= 1, got {c}")
    t = (n + c) // 2 + 1
    if t > n or t - c < MIN_HONEST:
        raise ValueError(
            f"expected fewer colluders: with {c} of {n} a sum would hide only "
            f"{max(min(t, n) - c, 0)} honest inputs, {MIN_HONEST} are required"
        )
    return t


def highest_threshold(num_clients: int, *, delta: float) -> int:
    """n - ceil(delta n): the most sites that a round can wait for if delta n vanish.

    >>> highest_threshold(10, delta=0.1)
    9
    """
    return num_clients - _ceil_fraction(num_clients, delta, "delta")


def choose(
    num_clients: int,
    *,
    roster_size: int,
    gamma: float,
    delta: float,
    allow_regular: bool = False,
) -> CompleteGraph | RegularGraph:
    """Parameters for n sites of a roster of N: gamma N may collude, delta n may drop out.

    Guarantee:  a complete graph up to n = 128; above it a k-regular one for which a server that
                grinds through 2^40 graphs still wins with probability below 2^-40.
    Raises:     ValueError where no parameters satisfy the demands, where n > 128 and
                ``allow_regular`` is false, or for a roster smaller than the cohort.

    >>> choose(64, roster_size=64, gamma=0.1, delta=0.1)
    CompleteGraph(num_clients=64, num_colluders=7, threshold=36)
    """
    if roster_size < num_clients:
        raise ValueError(f"expected roster_size >= num_clients, got {roster_size} < {num_clients}")
    c = num_colluders(roster_size, gamma=gamma)
    dropouts = _ceil_fraction(num_clients, delta, "delta")
    if num_clients > MAX_COMPLETE:
        if not allow_regular:
            raise ValueError(
                f"expected at most {MAX_COMPLETE} clients, got {num_clients}: split the cohort, "
                "or allow the weaker k-regular graph"
            )
        return _choose_regular(num_clients, num_colluders=c, num_dropouts=dropouts)
    t = threshold(num_clients, c)
    if t > num_clients - dropouts:
        raise ValueError(
            f"expected t <= n - dropouts, got {t} > {num_clients} - {dropouts}: "
            "lower gamma or delta"
        )
    return CompleteGraph(num_clients=num_clients, num_colluders=c, threshold=t)


def _choose_regular(num_clients: int, *, num_colluders: int, num_dropouts: int) -> RegularGraph:
    """A graph that holds for n - s survivors or more, which is also the quorum: what the search
    assumes of drop-outs is then no hope, but what every site insists on."""
    n, c = num_clients, num_colluders
    least = threshold(n, c)
    if least > n - num_dropouts:
        raise ValueError(
            f"expected quorum <= n - dropouts, got {least} > {n} - {num_dropouts}: "
            "lower gamma or delta"
        )
    # A server that leaves keys out tries other graphs, and leaves fewer to draw neighbours from.
    return search(n, gamma=c / n, delta=num_dropouts / n, sigma=80, drawn_late=True)


def max_input(num_clients: int, *, word_bits: int, noise_bound: int = 0) -> int:
    """The largest integer that every site may enter without the sum wrapping around.

    n * x + noise <= 2^(b-1) - 1, for the sum is decoded as centred around zero.
    Raises:     ValueError where not even x = 1 fits.

    >>> max_input(64, word_bits=24)
    131071
    """
    if num_clients < 1 or noise_bound < 0:
        raise ValueError("expected num_clients >= 1 and noise_bound >= 0")
    largest = ((1 << (word_bits - 1)) - 1 - noise_bound) // num_clients
    if largest < 1:
        raise ValueError(f"expected wider words than {word_bits} bits for {num_clients} clients")
    return largest


def skellam_tail(variance: float, *, num_words: int, log2_probability: float = -40.0) -> int:
    """x such that Skellam noise exceeds x in any of d words with probability 2^-40 at most.

    The Chernoff bound P[X >= x] <= exp(sqrt(v^2 + x^2) - v - x asinh(x / v)), for both signs and
    all words. The usual sigma sqrt(2 ln(2 d / p)) is the limit for large v, and too small
    elsewhere: a Skellam distribution has heavier tails than a Gaussian.

    Raises:     ValueError for a negative or non-finite variance, num_words < 1, probability >= 1.
    Source:     E exp(sX) = exp(v (cosh s - 1)) for variance v, minimised at sinh s = x / v.
    """
    if not (math.isfinite(variance) and variance >= 0):
        raise ValueError(f"expected variance finite and >= 0, got {variance}")
    if num_words < 1 or not log2_probability < 0:
        raise ValueError("expected num_words >= 1 and log2_probability < 0")
    if variance == 0:
        return 0
    target = (log2_probability - 1) * math.log(2) - math.log(num_words)

    def log_bound(x: int) -> float:
        ratio = x / variance
        # sqrt(v^2 + x^2) - v without the cancellation for x much below v.
        root = x * ratio / (math.hypot(1.0, ratio) + 1.0)
        return root - x * math.asinh(ratio)

    low, high = 0, 1
    while log_bound(high) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log_bound(middle) > target else (low, middle)
    return high


def _ceil_fraction(count: int, fraction: float, name: str) -> int:
    """ceil(fraction * count); 0.1 is one tenth, not the float64 a little above it."""
    if not 0 <= fraction < 1:
        raise ValueError(f"expected 0 <= {name} < 1, got {fraction}")
    return math.ceil(count * Fraction(fraction).limit_denominator(1_000_000))

"""The search for k and t on a random k-regular graph: the declared weaker option.

For a random permutation of n sites around a circle, each joined to its k nearest (the Harary
graph H(n, k)), with a = floor(gamma n) colluding and s = floor(delta n) dropping out:

(i)   the honest survivors form one connected component but for probability 2^-(sigma + 1);
(ii)  no site has more than t1 colluding neighbours but for probability 2^-(sigma + 1);
(iii) every site keeps at least t2 neighbours but for probability 2^-eta;

and t lies above t1 and not above t2. A server that is honest while the keys are exchanged but
lies about drop-outs afterwards (semi-malicious) can split the honest neighbours of a site in two,
so that t must exceed floor((t1 + k) / 2).

Source: Bell et al. (2020), eprint 2020/704, section 3 and its parameter search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["RegularGraph", "log2_disconnected", "log2_tail_above", "log2_tail_below", "search"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RegularGraph:
    """Each site shares with ``degree`` neighbours; valid but for the stated probabilities.

    num_clients         n, sites in the cohort
    degree              k, neighbours of each site, even
    threshold           t, shares of k that rebuild a secret
    num_colluders       a = floor(gamma n)
    num_dropouts        s = floor(delta n)
    log2_insecure       log2 of the chance that some honest input is not hidden as promised
    log2_failure        log2 of the chance that a round with s drop-outs cannot be finished
    """

    num_clients: int
    degree: int
    threshold: int
    num_colluders: int
    num_dropouts: int
    log2_insecure: float
    log2_failure: float

    @property
    def quorum(self) -> int:
        """n - s: the sites of every sum. With fewer, more would have vanished than was counted."""
        return self.num_clients - self.num_dropouts


def search(
    num_clients: int,
    *,
    gamma: float,
    delta: float,
    sigma: int = 40,
    eta: int = 20,
    semi_malicious: bool = True,
    drawn_late: bool = False,
) -> RegularGraph:
    """The smallest even k, and its t, that satisfy (i) to (iii).

    sigma       security in bits; 80 where the server can try 2^40 permutations (hash of keys)
    eta         a round with delta n drop-outs fails with probability 2^-eta at most
    drawn_late  the graph is drawn among those who sent keys: the server may leave honest sites out
                before, and (ii) is over the n - s others
    Raises:   ValueError for fractions outside [0, 1), or where only the complete graph would do.
    """
    n = num_clients
    if n < 3:
        raise ValueError(f"expected at least 3 clients, got {n}")
    for name, value in (("gamma", gamma), ("delta", delta)):
        if not 0 <= value < 1:
            raise ValueError(f"expected 0 <= {name} < 1, got {value}")
    if sigma < 1 or eta < 1:
        raise ValueError("expected sigma >= 1 and eta >= 1")
    colluding, dropping = _floor(n, gamma), _floor(n, delta)
    limit = -(sigma + 1)
    # The others of an honest site, among which its neighbours are drawn. For (i) and (iii) it is
    # worst if all s go afterwards: with fewer sites in the graph, a smaller share of them goes.
    others, drawn_from = n - 1, n - 1 - (dropping if drawn_late else 0)
    for k in range(2, drawn_from, 2):
        disconnected = log2_disconnected(n, degree=k, removed=colluding + dropping)
        if disconnected > limit:
            continue
        # The neighbours of an honest site that stays are k of the n - 1 others.
        staying = n - 1 - dropping
        t1 = _quantile_above(drawn_from, colluding, k, limit=limit - math.log2(n))
        infiltrated = log2_tail_above(t1, population=drawn_from, marked=colluding, draws=k)
        if semi_malicious:
            t1 = (t1 + k) // 2
        t2 = _quantile_below(others, staying, k, limit=-eta - math.log2(n))
        if t1 < t2:
            t = max(t1 + 1, 2)
            lost = log2_tail_below(t, population=others, marked=staying, draws=k)
            return RegularGraph(
                num_clients=n,
                degree=k,
                threshold=t,
                num_colluders=colluding,
                num_dropouts=dropping,
                log2_insecure=_log2_sum([disconnected, infiltrated + math.log2(n)]),
                log2_failure=min(lost + math.log2(n), 0.0),
            )
    raise ValueError(
        f"expected lower gamma or delta: no k-regular graph on {n} clients is secure with "
        f"gamma={gamma:g}, delta={delta:g}; use the complete graph"
    )


def log2_disconnected(num_clients: int, *, degree: int, removed: int) -> float:
    """log2 of a bound on the chance that H(n, k) falls apart when ``removed`` random sites go.

    Two blocks of k / 2 neighbouring places must vanish; n (n - k - 1) / 2 pairs of blocks, each
    with probability C(removed, k) / C(n, k). Minus infinity where k > removed.
    """
    n, k = num_clients, degree
    if k > removed:
        return -math.inf
    pairs = n * (n - k - 1) / 2
    return math.log2(pairs) + (_log_choose(removed, k) - _log_choose(n, k)) / math.log(2)


def log2_tail_above(bound: int, *, population: int, marked: int, draws: int) -> float:
    """log2 P[X > bound] for X hypergeometric: marked ones among ``draws`` without replacement."""
    most = min(marked, draws)
    return _log2_sum(
        [_log2_mass(x, population, marked, draws) for x in range(max(bound + 1, 0), most + 1)]
    )


def log2_tail_below(bound: int, *, population: int, marked: int, draws: int) -> float:
    """log2 P[X < bound] for the same X: the tail above of the unmarked ones."""
    return log2_tail_above(
        draws - bound, population=population, marked=population - marked, draws=draws
    )


def _quantile_above(population: int, marked: int, draws: int, *, limit: float) -> int:
    """The smallest t with log2 P[X > t] <= limit."""
    t = min(marked, draws)
    tail = -math.inf
    while t > 0:
        tail = _log2_sum([tail, _log2_mass(t, population, marked, draws)])
        if tail > limit:
            return t
        t -= 1
    return t


def _quantile_below(population: int, marked: int, draws: int, *, limit: float) -> int:
    """The largest t with log2 P[X < t] <= limit."""
    return draws - _quantile_above(population, population - marked, draws, limit=limit)


def _log2_mass(x: int, population: int, marked: int, draws: int) -> float:
    if not max(0, draws - (population - marked)) <= x <= min(marked, draws):
        return -math.inf
    mass = _log_choose(marked, x) + _log_choose(population - marked, draws - x)
    return (mass - _log_choose(population, draws)) / math.log(2)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log2_sum(terms: list[float]) -> float:
    """log2 of a sum of powers of two, without underflow."""
    largest = max(terms, default=-math.inf)
    if largest == -math.inf:
        return largest
    return largest + math.log2(sum(2.0 ** (term - largest) for term in terms))


def _floor(count: int, fraction: float) -> int:
    """floor(fraction * count), with 0.29 * 100 = 29 although float64 says 28.999..."""
    return math.floor(count * fraction + 1e-9)

"""What a secure round costs, by a formula: fitted on small rounds, checked on larger ones.

    python benchmarks/cost_model.py                  # ten minutes of one core
    python benchmarks/cost_model.py --sites 10 20 40 --checks 60

Whole rounds of the protocol in this process, without a network: CPU seconds of a site and of the
server, bytes of a site up and down. n sites, each sharing with k others (n - 1 on the complete
graph), d words of 32 bits, a share of sites that vanish after they
dealt. Printed: the fitted formulas, then measured against predicted for rounds that the fit has
not seen. docs/scaling.md has a copy, and carries it on to cohorts and federations on paper.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from machine import calibration, high_water_mark

from protocol.parameters import choose
from protocol_simulation import STAGES, Federation, Round

SITES, CHECKS, WORDS = (5, 10, 20, 40, 130), (80, 200, 500), (1000, 300_000)
WORD_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One round: a site's means over the survivors, the server's sums."""

    n: int
    k: int
    d: int
    gone: int
    site_s: float
    server_s: float
    up: float
    down: float

    @property
    def name(self) -> str:
        graph = "complete" if self.k == self.n - 1 else f"{self.k}-regular"
        return f"{self.n} sites, {graph}, {self.d:,} words, {self.gone} vanish"


# What each quantity is a sum of, with the unit of its coefficient.
TERMS = {
    "site_s": {
        "signatures of all, ms each": lambda m: m.n / 1e3,
        "a neighbour's keys and shares, ms": lambda m: m.k / 1e3,
        "masks, ns a word": lambda m: (m.k + 1) * m.d / 1e9,
    },
    "server_s": {
        "a site's messages, ms": lambda m: m.n / 1e3,
        "a pair's shares, ms": lambda m: m.n * m.k / 1e3,
        "tests of dealings, us": lambda m: (m.n if m.k < m.n - 1 else 1) * m.k**2 / 1e6,
        "uploads, ns a word": lambda m: (m.n - m.gone) * m.d / 1e9,
        "masks taken off, ns a word": lambda m: (m.n - m.gone + m.gone * m.k) * m.d / 1e9,
    },
    "up": {
        "of its own": lambda m: 1.0,
        "a neighbour": lambda m: m.k,
        "a word": lambda m: m.d,
    },
    "down": {"of its own": lambda m: 1.0, "a site": lambda m: m.n, "a neighbour": lambda m: m.k},
}


def measure(n: int, *, d: int, vanish: float) -> Measured:
    """One round of ``n`` sites, on the graph that the protocol chooses for so many."""
    graph = choose(n, roster_size=n, gamma=0.1, delta=0.1, allow_regular=True)
    k = getattr(graph, "degree", n - 1)
    t = graph.threshold
    sparse = {} if k == n - 1 else {"degree": k, "share_threshold": t}
    federation = Federation(n, num_words=d, collusion=0.1, word_bits=8 * WORD_BYTES, **sparse)
    gone = set(federation.ids[: min(int(vanish * n), n - federation.spec.quorum)])
    round_ = Round(federation)
    sites, server, up, down = 0.0, 0.0, 0, 0
    for stage in range(STAGES + 1):
        for id, data in round_.outbound.items():
            if id in gone and stage >= 2:
                continue
            started = time.process_time()
            answer = round_.answer(id, data)
            sites += time.process_time() - started
            up, down = up + len(answer), down + len(data)
            if stage < STAGES:
                started = time.process_time()
                round_.server.receive(id, answer)
                server += time.process_time() - started
        round_.log.clear()  # it holds every upload
        if stage < STAGES:
            started = time.process_time()
            step = round_.server.close_stage()
            server += time.process_time() - started
            round_.outbound = step.outbound
    alive = n - len(gone)
    return Measured(
        n=n, k=k, d=d, gone=len(gone), site_s=sites / n, server_s=server,
        up=up / alive, down=down / alive,
    )  # fmt: skip


def fit(rounds: Sequence[Measured], quantity: str) -> np.ndarray:
    """Coefficients, none negative, of the least squared relative error."""
    terms = np.array([[term(m) for term in TERMS[quantity].values()] for m in rounds])
    values = np.array([getattr(m, quantity) for m in rounds])
    return nnls(terms / values[:, None], np.ones(len(values)))[0]


def predicted(m: Measured, quantity: str, coefficients: np.ndarray) -> float:
    return float(
        sum(c * term(m) for c, term in zip(coefficients, TERMS[quantity].values(), strict=True))
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sites", type=int, nargs="+", default=SITES)
    parser.add_argument("--checks", type=int, nargs="+", default=CHECKS)
    given = parser.parse_args()
    measure(5, d=1000, vanish=0)  # the first pays for what is loaded
    seen = [
        measure(n, d=d, vanish=vanish) for n in given.sites for d in WORDS for vanish in (0.0, 0.1)
    ]
    unseen = [measure(n, d=10_000, vanish=0.05) for n in given.checks]
    found = {quantity: fit(seen, quantity) for quantity in TERMS}
    print(f"fixed mix of machine.py: {calibration():.3f} CPU s\n")
    for quantity, coefficients in found.items():
        parts = zip(TERMS[quantity], coefficients, strict=True)
        print(f"{quantity}: " + "; ".join(f"{name} {c:.3g}" for name, c in parts))
    print("\n| round | " + " | ".join(f"{q}, measured | predicted" for q in TERMS) + " |")
    print("|" + "---|" * (1 + 2 * len(TERMS)))
    for m in [*seen, *unseen]:
        cells = [f"{getattr(m, q):.3g} | {predicted(m, q, found[q]):.3g}" for q in TERMS]
        mark = " (not fitted)" if m in unseen else ""
        print(f"| {m.name}{mark} | {' | '.join(cells)} |")
    peak = high_water_mark() / 1e6
    print(f"\npeak memory, all parties of the largest round in one process: {peak:,.0f} MB")


if __name__ == "__main__":
    main()

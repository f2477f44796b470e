"""Fifty sites, a hundred and fifty rounds, random dropouts: no failure, every sum exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.server.attempt import STAGES


def run(secure_parties, path: Path, *, num_sites: int, rounds: int) -> int:
    parties = secure_parties.Parties(path, num_sites=num_sites, num_parameters=16)
    rng = np.random.default_rng(1)
    aggregator = parties.aggregator()
    x, dropped = parties.zeros(), 0
    spare = num_sites - parties.terms.threshold
    for training_round in range(1, rounds + 1):
        count = int(rng.integers(0, spare + 1))
        gone = rng.choice(parties.names, size=count, replace=False)
        leaves = {
            str(s): (int(rng.integers(5)), str(rng.choice(["before", "after"]))) for s in gone
        }

        def fault(stage: str, site: str, exchange: int, leaves=leaves) -> str | None:
            if site not in leaves:
                return None
            place, when = leaves[site]
            now = STAGES.index(stage)
            return when if now == place else "before" if now > place else None

        parties.engine.fault = fault
        found = parties.aggregate(aggregator, training_round, parameters=x)
        survivors = tuple(n for n in parties.names if leaves.get(n, (9, ""))[0] > 2)
        assert found.sites == survivors
        assert found.secure.attempts == 1
        oracle = parties.oracle(survivors, training_round, parameters=x)
        np.testing.assert_array_equal(found.update, oracle)
        dropped += num_sites - len(survivors)
        x = (x + found.update).astype(np.float32)
    return dropped


def test_ten_sites_six_rounds(secure_parties, tmp_path: Path) -> None:
    assert run(secure_parties, tmp_path, num_sites=10, rounds=6) > 0


@pytest.mark.slow
def test_fifty_sites_hundred_and_fifty_rounds(secure_parties, tmp_path: Path) -> None:
    assert run(secure_parties, tmp_path, num_sites=50, rounds=150) > 300

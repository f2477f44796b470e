"""Privacy unit ``site`` under dropouts: every sum holds the noise that is accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.server.attempt import STAGES

UNIT = [
    "privacy.unit=site",
    "privacy.noise_multiplier=2",
    "privacy.clip_norm=0.5",
    "training.local_steps=4",
    "secure_aggregation.word_bits=32",
]


@pytest.mark.parametrize("stage", STAGES[:5])
def test_the_noise_of_a_sum_with_dropouts_is_at_least_the_accounted_one(
    secure_parties, tmp_path: Path, stage: str
) -> None:
    """One of six sites vanishes; what remains holds one share for each site in the sum."""
    parties = secure_parties.Parties(tmp_path, *UNIT, num_sites=6, num_parameters=4000)
    order = {name: place for place, name in enumerate(STAGES)}
    parties.engine.fault = lambda now, site, exchange: (
        "before" if site == "site-02" and order[now] >= order[stage] else None
    )
    found = parties.sum()
    noise, scale = parties.terms.noise, parties.terms.scale
    in_sum = len(found.sites)
    assert in_sum == (6 if stage in ("check", "unmask") else 5)
    # The mean is over sites that count alike; without noise it would be that of clipped updates.
    clean = sum(np.float64(clipped(parties, site)) for site in found.sites) / in_sum
    error = (found.update - clean) * in_sum * scale
    expected = in_sum * noise.share_variance
    assert np.var(error) == pytest.approx(expected, rel=0.15)
    assert expected >= noise.event.variance * in_sum / parties.terms.threshold
    assert found.loss is found.num_images is found.secure.clipped is None


def clipped(parties, site: str) -> np.ndarray:
    from phoenix_secure.federation.round.messages import TrainRequest

    request = TrainRequest(round_number=1, parameters=parties.zeros())
    delta = parties.sites[site].update(request).delta
    return delta * min(1.0, parties.terms.clip_norm / float(np.linalg.norm(delta)))


def test_another_attempt_enters_the_same_noise_and_shows_no_second_sum(
    secure_parties, tmp_path: Path
) -> None:
    parties = secure_parties.Parties(tmp_path, *UNIT, num_sites=6, num_parameters=500)
    entered: list[tuple[str, np.ndarray]] = []
    for site in parties.sites.values():
        original = site.secure._payload

        def payload(request, model_hash, train, *, of=site, inner=original):
            found = inner(request, model_hash, train)
            entered.append((of.name, found.noise))
            return found

        site.secure._payload = payload
    parties.engine.fault = lambda now, site, exchange: (
        "before" if now == "mask" and exchange < 4 and site > "site-02" else None
    )
    found = parties.sum()
    assert found.secure.attempts == 2
    for name in ("site-01", "site-06"):
        first, second = (noise for who, noise in entered if who == name)
        np.testing.assert_array_equal(first, second)

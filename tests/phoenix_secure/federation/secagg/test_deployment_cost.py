"""Costs between machines by exchange, and the one that a dry run recommends."""

from __future__ import annotations

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.federation.secagg.deployment_cost import Advice, Exchange, advise

RECORD = ["privacy.unit=record", "privacy.epsilon=1"]
SITE = ["privacy.unit=site", "privacy.epsilon=1"]


def advice(*settings: str) -> Advice:
    return advise(load_config(None, list(settings)), num_parameters=160_401, num_words=60_990)


def test_costs_are_rounds_bytes_and_waiting() -> None:
    costs = advice("federation.rounds=10", "training.local_steps=20").costs

    assert [costs[each].rounds for each in Exchange] == [1, 10, 200]
    assert costs[Exchange.RELEASE].megabytes_per_site == pytest.approx(2 * 4 * 60_990 / 1e6)
    # Three bytes a parameter, up and down; 10 s and 0.77 s of sending a round.
    assert costs[Exchange.GRADIENTS].megabytes_per_site == pytest.approx(200 * 6 * 0.160401)
    assert costs[Exchange.GRADIENTS].hours == pytest.approx(200 * 10.77 / 3600, rel=1e-3)
    assert costs[Exchange.UPDATES].hours == pytest.approx(costs[Exchange.GRADIENTS].hours / 20)


@pytest.mark.parametrize(
    ("settings", "recommended"),
    [
        (RECORD, Exchange.RELEASE),
        (SITE, Exchange.UPDATES),
        (["partition.scheme=shards", "federation.rounds=10"], Exchange.GRADIENTS),
        (["partition.scheme=shards", "federation.rounds=100"], Exchange.UPDATES),
        (["partition.scheme=iid", "federation.rounds=10"], Exchange.UPDATES),
    ],
)
def test_the_recommendation_follows_privacy_skew_and_time(
    settings: list[str], recommended: Exchange
) -> None:
    found = advice(*settings)

    assert found.recommended is recommended
    assert found.why
    assert "1 round," in found.costs[Exchange.RELEASE].text

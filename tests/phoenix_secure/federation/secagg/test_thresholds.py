"""Refusals of thresholds name values that are then accepted."""

from __future__ import annotations

import itertools
import re

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.cohort import cohort_size
from phoenix_secure.federation.secagg.thresholds import choose_threshold

REGULAR = "secure_aggregation.graph=regular"
NAMES = "collusion", "dropout"


def settings(*overrides: str) -> RunConfig:
    return load_config(None, overrides)


def refusal(*overrides: str) -> str | None:
    config = settings(*overrides)
    try:
        choose_threshold(config, cohort=cohort_size(config))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("num_sites", [3, 4, 5, 6, 9, 20, 64, 128])
def test_every_way_that_a_refusal_offers_is_one(num_sites: int) -> None:
    refused = 0
    for collusion, dropout in itertools.product((0, 0.1, 0.3, 0.45), (0, 0.05, 0.3, 0.49)):
        asked = (
            f"partition.num_sites={num_sites}",
            f"secure_aggregation.collusion={0 if num_sites < 5 else collusion}",
            f"secure_aggregation.dropout={dropout}",
        )
        message = refusal(*asked)
        if message is None:
            continue
        refused += 1
        ways = message.partition(": set ")[2].split(", or ")
        assert ways != [""]
        for way in ways:
            assert refusal(*asked, *way.split()) is None, (asked, way)
            # The largest values that will do: the next site more does not.
            for name, value in re.findall(r"(secure_aggregation\.\w+)=([\d.]+)", way):
                more = float(value) + 1.1 / num_sites
                if len(way.split()) == 1 and more < 0.45:
                    assert refusal(*asked, f"{name}={more:g}") is not None
    assert refused or num_sites in (4,)


def test_three_sites_are_told_both_settings_at_once() -> None:
    """The first refusal used to name one of them, and the second one the other."""
    message = refusal("partition.num_sites=3")
    assert message is not None
    way = re.search(r"may set (.*?), where", message)
    assert way is not None
    assert refusal("partition.num_sites=3", *way.group(1).split()) is None


def test_a_cohort_beyond_the_complete_graph_is_told_the_participation_that_fits() -> None:
    message = refusal("partition.num_sites=300")
    assert message is not None
    found = re.search(r"federation\.participation=[\d.]+", message)
    assert found is not None
    assert refusal("partition.num_sites=300", found.group()) is None
    other = re.search(r"secure_aggregation\.graph=regular, a weaker option", message)
    assert other is not None
    assert refusal("partition.num_sites=300", REGULAR) is None


@pytest.mark.parametrize("num_sites", [5, 128])
def test_the_weaker_graph_is_refused_where_the_complete_one_is_enough(num_sites: int) -> None:
    asked = f"partition.num_sites={num_sites}"
    message = refusal(asked, REGULAR)
    assert message is not None
    assert "set secure_aggregation.graph=complete, which is stronger" in message
    assert refusal(asked, "secure_aggregation.graph=complete") is None


@pytest.mark.long
def test_every_way_that_a_refusal_of_the_weaker_graph_offers_is_one() -> None:
    for asked in itertools.product((0.2, 0.45), (0.3, 0.49)):
        settings = [
            *("partition.num_sites=200", REGULAR),
            *(f"secure_aggregation.{n}={v}" for n, v in zip(NAMES, asked, strict=True)),
        ]
        message = refusal(*settings)
        assert message is not None
        ways = message.partition(": set ")[2].split(", or ")
        assert ways != [""]
        for way in ways:
            assert refusal(*settings, *way.split()) is None, (asked, way)

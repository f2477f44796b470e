"""Rows of the benchmark: the protocol's numbers, and which combinations there are."""

from __future__ import annotations

import math

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks.dp_images import Method, Row, Setting, Trust, plan_rows


def rows_of(**changes: object) -> list[Row]:
    asked: dict[str, object] = {
        "datasets": ["mnist"],
        "settings": [Setting.SITES_2SHARDS],
        "trusts": [],
        "methods": [Method.RELEASE],
        "epsilons": [1.0],
        "seeds": [0],
    }
    return plan_rows(**(asked | changes))  # type: ignore[arg-type]


def test_the_protocols_numbers_of_images_and_delta() -> None:
    (row,) = rows_of()
    data = row.config.data

    assert row.delta == pytest.approx(1 / (55_000 * math.log(55_000)), rel=5e-3)
    assert row.config.privacy.delta == row.delta
    assert 60_000 * (1 - data.held_out - data.reference) == pytest.approx(55_000, abs=1)
    assert row.num_images == 60_000
    assert row.config.evaluation.num_images == 0  # the benchmark evaluates


@pytest.mark.parametrize("method", list(Method))
def test_every_setting_has_the_trusts_that_it_can_have(method: Method) -> None:
    rows = rows_of(settings=list(Setting), trusts=list(Trust), methods=[method])

    assert [(row.setting, row.trust) for row in rows] == [
        (Setting.ONE_PLACE, Trust.CENTRAL),
        (Setting.SITES_IID, Trust.SUM),
        (Setting.SITES_IID, Trust.SITE_LOCAL),
        (Setting.SITES_2SHARDS, Trust.SUM),
        (Setting.SITES_2SHARDS, Trust.SITE_LOCAL),
    ]
    place = rows[0].config
    assert (place.partition.num_sites, place.secure_aggregation.mode) == (1, "off")
    assert [row.config.privacy.trust for row in rows[1:]] == ["sum", "site-local"] * 2
    assert all(row.config.secure_aggregation.mode == "on" for row in rows[1:])
    assert len({row.name for row in rows}) == len({row.command for row in rows}) == 5


def test_sites_steps_are_those_of_one_place() -> None:
    """The same expected batch, clip norm, number of steps and step size, wherever noise is made."""
    rows = rows_of(
        settings=[Setting.ONE_PLACE, Setting.SITES_IID],
        trusts=list(Trust),
        methods=[Method.DP_SGD],
        overrides=["privacy.sampling_rate=0.04"],
    )
    for row in rows:
        config = row.config
        assert config.training.batch_size * row.num_sites == pytest.approx(2200)
        step = config.training.learning_rate * config.federation.server_learning_rate
        assert step == pytest.approx(0.005)
        assert (config.privacy.clip_norm, config.federation.rounds) == (0.5, 1000)


def test_overrides_make_another_row() -> None:
    (plain,), (changed,) = rows_of(), rows_of(overrides=["release.fit_steps=7"])

    assert plain.name != changed.name
    assert changed.config.release.fit_steps == 7
    assert changed.command.endswith(" release.fit_steps=7")
    assert rows_of(num_images=100)[0].name != plain.name


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trusts": [Trust.CENTRAL]}, "--trust central"),
        ({"datasets": ["imagenet"]}, "--dataset imagenet"),
        ({"overrides": ["release.nothing=1"]}, "release"),
        ({"num_images": 3}, "--num-images"),
    ],
)
def test_what_makes_no_row_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        rows_of(**changes)

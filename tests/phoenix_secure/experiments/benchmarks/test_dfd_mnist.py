"""Rows of the DfD setting: its numbers, and which combinations there are."""

from __future__ import annotations

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.benchmarks.dfd_mnist import (
    Method,
    Partition,
    Row,
    epsilon_of,
    plan_rows,
)


def rows_of(**changes: object) -> list[Row]:
    asked: dict[str, object] = {
        "methods": [Method.RELEASE],
        "partitions": [Partition.DIRICHLET],
        "epsilons": [10.0],
        "seeds": [0],
    }
    return plan_rows(**(asked | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("epsilon", [10.0, None])
def test_the_paper_s_numbers_hold_for_every_method(method: Method, epsilon: float | None) -> None:
    dirichlet, shards = rows_of(methods=[method], epsilons=[epsilon], partitions=list(Partition))
    data, partition = dirichlet.config.data, dirichlet.config.partition

    assert (data.name, data.image_size) == ("mnist", 32)
    assert 60_000 * data.fraction == pytest.approx(10 * 300)
    assert (data.held_out, data.reference, data.split) == (0, 0, "keyed")
    assert (partition.num_sites, partition.scheme, partition.alpha) == (10, "dirichlet", 0.1)
    assert shards.config.partition.scheme == "shards"
    assert shards.config.partition.shards_per_site == 2
    assert dirichlet.config.secure_aggregation.mode == "on"
    if epsilon is not None:
        privacy = dirichlet.config.privacy
        assert (privacy.unit, privacy.epsilon, privacy.delta) == ("record", 10.0, 1e-5)
        # Noised once for all sites together wherever a sum of gradients or features is.
        assert privacy.trust == ("site-local" if method is Method.FEDAVG else "sum")


def test_a_release_is_never_without_noise_and_says_so() -> None:
    rows = rows_of(methods=[Method.RELEASE, Method.FEDAVG], epsilons=[None, 1000.0])

    assert [(row.method, row.epsilon) for row in rows] == [
        (Method.RELEASE, 1000.0),  # asked for twice, there once
        (Method.FEDAVG, None),
        (Method.FEDAVG, 1000.0),
    ]
    assert rows[0].config.privacy.epsilon == 1000
    assert "--epsilon 1000" in rows[0].command
    assert rows[1].config.privacy.unit == "none"
    assert "--epsilon none" in rows[1].command


def test_local_steps_are_the_paper_s() -> None:
    (row,) = rows_of(methods=[Method.FEDAVG], epsilons=[None])

    assert row.config.training.local_steps == 10
    assert row.config.training.batch_size == 32


def test_steps_with_privacy_see_as_many_images_as_without() -> None:
    (row,) = rows_of(methods=[Method.GRADIENTS])

    assert row.config.privacy.sampling_rate == pytest.approx(32 / 300, rel=0.01)
    assert row.config.training.batch_size == 32


def test_overrides_and_numbers_make_other_rows() -> None:
    (plain,), (changed,) = rows_of(), rows_of(overrides=["release.fit_steps=7"])

    assert plain.name != changed.name
    assert changed.config.release.fit_steps == 7
    assert changed.command.endswith(" release.fit_steps=7")
    assert rows_of(num_images=100)[0].name != plain.name
    assert rows_of(num_images=100)[0].command.endswith("--num-images 100")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "imagenet"}, "--dataset imagenet"),
        ({"overrides": ["release.nothing=1"]}, "release"),
        ({"epsilons": [2000.0]}, "epsilon"),
    ],
)
def test_what_makes_no_row_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        rows_of(**changes)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "ten"])
def test_an_epsilon_is_a_positive_number_or_none(text: str) -> None:
    assert epsilon_of("none") is None
    assert epsilon_of("10") == 10.0
    with pytest.raises(ConfigError, match="--epsilon"):
        epsilon_of(text)

"""Which coordinates travel, by property, and the patterns that choose them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import ExchangeConfig, ModelConfig
from phoenix_secure.diffusion.unet import build_unet
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.heterogeneity.exchange import Exchange, plan_exchange
from phoenix_secure.federation.heterogeneity.partial import PartialAggregator
from phoenix_secure.federation.heterogeneity.selection import GROUPS, layout_of, select
from phoenix_secure.federation.round.aggregate import Aggregate, result_of
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.rng import SeedTree

LAYOUT = (("conv_in.weight", 3), ("up_blocks.0.w", 4), ("up_blocks.1.w", 2), ("conv_out.bias", 1))


@st.composite
def exchanges(draw) -> Exchange:
    """Any choice of personal coordinates and one or two parts of the rest."""
    owner = np.array(draw(st.lists(st.integers(0, 2), min_size=3, max_size=40)))
    owner[:2] = (1, 2)
    parts = [np.flatnonzero(owner == 1), np.flatnonzero(owner == 2)]
    if draw(st.booleans()):
        parts = [np.flatnonzero(owner > 0)]
    return Exchange(personal=owner == 0, parts=tuple(parts))


@given(exchanges(), st.integers(1, 9), st.integers(0, 2**31))
def test_personal_parameters_are_unchanged_by_aggregation(exchange, round_number, seed) -> None:
    rng = np.random.default_rng(seed)
    deltas = rng.standard_normal((3, exchange.num_parameters)).astype(np.float32) + 5
    answers = [exchange.to_server(delta, round_number=round_number) for delta in deltas]
    update = exchange.from_sites(np.mean(answers, axis=0), round_number=round_number)
    assert not update[exchange.personal].any()
    part = exchange.part(round_number)
    np.testing.assert_allclose(update[part], deltas.mean(axis=0)[part], rtol=1e-5)
    others = np.setdiff1d(np.arange(exchange.num_parameters), part)
    assert not update[others].any()


@given(exchanges(), st.integers(1, 9), st.integers(0, 2**31))
def test_an_answer_does_not_depend_on_a_personal_parameter(exchange, round_number, seed) -> None:
    delta = np.random.default_rng(seed).standard_normal(exchange.num_parameters)
    other = delta.copy()
    other[exchange.personal] = np.nan
    np.testing.assert_array_equal(
        exchange.to_server(delta, round_number=round_number),
        exchange.to_server(other, round_number=round_number),
    )


@given(exchanges(), st.integers(0, 2**31))
def test_completing_what_was_sent_gives_the_vector_back(exchange, seed) -> None:
    vector = np.random.default_rng(seed).standard_normal(exchange.num_parameters).astype("f4")
    shared, personal = exchange.to_sites(vector), vector[exchange.personal]
    assert np.array_equal(exchange.complete(shared, personal=personal), vector)
    with pytest.raises(ValueError, match="shared and personal"):
        exchange.complete(np.append(shared, np.float32(0)), personal=personal)


@given(exchanges())
def test_every_shared_coordinate_is_in_one_part(exchange) -> None:
    rounds = [exchange.part(number) for number in range(1, len(exchange.parts) + 1)]
    assert sorted(np.concatenate(rounds)) == list(np.flatnonzero(~exchange.personal))
    assert {
        exchange.to_server(np.ones(exchange.num_parameters), round_number=n).size for n in (1, 2, 3)
    } == {exchange.num_uploaded}


def test_parts_that_hold_a_personal_coordinate_are_refused() -> None:
    with pytest.raises(ValueError, match="every shared coordinate once"):
        Exchange(personal=np.array([True, False]), parts=(np.array([0, 1]),))


def test_groups_name_tensors_of_the_real_network() -> None:
    network = build_unet(ModelConfig(), image_size=8, channels=1, num_classes=0, seeds=SeedTree(0))
    layout = layout_of(network)
    sizes = {
        group: int(select(layout, (group,), setting="x").sum())
        for group in GROUPS
        if group != "embeddings"
    }
    total = sum(size for _, size in layout)
    embeddings = int(select(layout, ("embeddings",), setting="x").sum())
    assert sizes["encoder"] + sizes["middle"] + sizes["decoder"] + embeddings == total
    # conv_norm_out and conv_out of the preset tiny: 16 + 16 + 9 * 16 + 1.
    assert sizes["last-layers"] == 177
    assert sizes["last-layers"] < sizes["decoder-tail"] < sizes["decoder"]
    norms = {name for name, _ in layout if "norm" in name}
    assert sizes["norms"] == sum(size for name, size in layout if name in norms)


def test_a_pattern_that_names_nothing_is_refused_with_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"exchange\.personal: 'conv_aut\.\*' names no parameter"):
        plan_exchange(ExchangeConfig(personal=("conv_aut.*",)), LAYOUT)


def test_keeping_everything_at_home_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves nothing to exchange"):
        plan_exchange(ExchangeConfig(personal=("*",)), LAYOUT)
    with pytest.raises(ConfigError, match="leaves nothing to exchange"):
        plan_exchange(ExchangeConfig(personal=("decoder",), upload="alternate"), LAYOUT)


def test_alternate_rounds_answer_with_encoder_then_decoder() -> None:
    exchange = plan_exchange(ExchangeConfig(personal=("conv_out.*",), upload="alternate"), LAYOUT)
    assert exchange.part(1).tolist() == [0, 1, 2]
    assert exchange.part(2).tolist() == [3, 4, 5, 6, 7, 8]
    assert exchange.part(3).tolist() == exchange.part(1).tolist()
    assert (exchange.num_personal, exchange.num_uploaded) == (1, 6)


class Mean:
    """An aggregator that keeps what it was given."""

    def members(self) -> tuple[str, ...]:
        return ("a",)

    def aggregate(self, request: TrainRequest, *, cohort):
        yield from ()
        self.sent = request.parameters
        return Aggregate(
            update=np.arange(1.0, 7.0),
            loss=1.0,
            sites=cohort,
            failures={},
            num_images=1,
            num_steps=1,
            bytes_down=0,
            bytes_up=0,
        )


def test_the_server_sends_and_moves_only_what_is_shared() -> None:
    inner = Mean()
    exchange = plan_exchange(ExchangeConfig(personal=("conv_out.*",), upload="alternate"), LAYOUT)
    whole = np.arange(10, dtype=np.float32)
    request = TrainRequest(round_number=1, parameters=whole)
    found = result_of(PartialAggregator(inner, exchange=exchange).aggregate(request, cohort=("a",)))
    assert inner.sent.tolist() == list(range(9))
    assert found.update.tolist() == [1, 2, 3, 0, 0, 0, 0, 0, 0, 0]

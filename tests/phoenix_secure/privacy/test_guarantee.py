"""A guarantee in words and figures: unit, neighbours and delta stand beside every epsilon."""

from __future__ import annotations

import json

import pytest

from phoenix_secure.privacy.guarantee import NO_GUARANTEE, Guarantee


def guarantee(unit: str, epsilon: float | None) -> Guarantee:
    return Guarantee(
        unit=unit,
        epsilon=epsilon,
        delta=1e-5,
        noise_multiplier=0.75,
        mechanism="DP-SGD",
        per_site={"site-01": 1.5},
        warnings=("few sites",),
    )


@pytest.mark.parametrize(
    ("unit", "neighbours"),
    [
        ("record", "one image of one site"),
        ("group", "all images of one person of one site"),
        ("site", "one whole site"),
    ],
)
def test_epsilon_never_stands_alone(unit: str, neighbours: str) -> None:
    made = guarantee(unit, 3.25)
    assert made.holds
    assert made.text.startswith(f"(3.25, 1e-05)-differential privacy per {unit} ")
    assert neighbours in made.text
    assert "noise multiplier 0.75" in made.text


def test_seeded_noise_guarantees_nothing() -> None:
    made = guarantee("record", None)
    assert not made.holds
    assert made.text.startswith("no formal guarantee: the noise is seeded")


def test_without_privacy_there_is_none_and_nobody_is_named_as_trusted() -> None:
    assert not NO_GUARANTEE.holds
    assert NO_GUARANTEE.text == "no formal guarantee: differential privacy is off"
    plain = NO_GUARANTEE.to_dict()
    assert plain["trusted"] == {}
    assert plain["not_protected"] == []


@pytest.mark.parametrize("unit", ["record", "group", "site"])
def test_plain_values_name_what_is_trusted_and_what_is_not_protected(unit: str) -> None:
    plain = guarantee(unit, 2.0).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain["trusted"]) == {"each site", "server", "other sites", "reader of the model"}
    assert len(plain["not_protected"]) >= 3
    assert (plain["per_site"], plain["warnings"]) == ({"site-01": 1.5}, ["few sites"])


def test_an_unknown_unit_has_no_neighbours() -> None:
    with pytest.raises(KeyError):
        _ = guarantee("patient of a patient", 1.0).text

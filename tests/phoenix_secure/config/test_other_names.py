"""A setting by another program's name, or in the wrong section, is answered with the right one."""

from __future__ import annotations

import re

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config.faults import field_at
from phoenix_secure.config.other_names import _OTHER_NAMES
from phoenix_secure.config_file import load_config, parse_config
from phoenix_secure.errors import ConfigError


def test_every_other_name_leads_to_a_setting_and_hides_none() -> None:
    for other, name in _OTHER_NAMES.items():
        assert field_at(name.split("."), of=RunConfig) is not None, name
        assert other not in RunConfig.model_fields


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.lr=0.1", "training.learning_rate"),
        ("LR=0.1", "training.learning_rate"),
        ("epsilon=8", "privacy.epsilon"),
        ("privacy.eps=8", "privacy.epsilon"),
        ("rounds=3", "federation.rounds"),
        ("federation.num-clients=4", "partition.num_sites"),
        ("model.noise_draws=3", "privacy.noise_draws"),
        ("training.batchsize=3", "training.batch_size"),
    ],
)
def test_an_unknown_name_is_answered_with_the_setting_that_was_meant(
    override: str, meant: str
) -> None:
    name = override.partition("=")[0]
    message = f"override {override!r}: unknown setting {name}: did you mean {meant}?"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, [override])


def test_a_sweep_is_called_one() -> None:
    with pytest.raises(ConfigError, match="this file is a sweep: use `phoenix-secure sweep`"):
        parse_config({"axes": {"seed": [0, 1]}}, source="s.yaml")


def test_the_fault_of_a_file_is_not_blamed_on_an_override() -> None:
    with pytest.raises(ConfigError, match=r"^s.yaml: unknown setting training.lr"):
        parse_config({"training": {"lr": 1}}, ["federation.rounds=3"], source="s.yaml")

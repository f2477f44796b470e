"""A setting by another program's name, or in the wrong section, is answered with the right one."""

from __future__ import annotations

import re

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config.meant import field_at
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
        ("training.learningrate=0.1", "training.learning_rate"),
        ("batchsize=3", "training.batch_size or sampling.batch_size"),
        ("batch-size=8", "training.batch_size or sampling.batch_size"),
        ("Training.learning_rate=0.1", "training.learning_rate"),
        ("fed.rounds=3", "federation.rounds"),
        ("federaton.rounds=3", "federation.rounds"),
        ("federation.strategy=fedprox", "federation.server_optimizer"),
        ("model.name=unet", "model.preset"),
        ("privacy.noise=1.1", "privacy.noise_multiplier"),
        ("learning_rat=1", "training.learning_rate"),
        ("Seed=3", "seed"),
    ],
)
def test_an_unknown_name_is_answered_with_the_setting_that_was_meant(
    override: str, meant: str
) -> None:
    name = override.partition("=")[0].strip()
    message = f"override {override!r}: unknown setting {name}: did you mean {meant}?"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("data=mnist", "data: this is a section: set data.name or another setting in it"),
        ("secure_aggregation=off", "this is a section: set secure_aggregation.mode"),
        ("data.name=MNIST", "did you mean mnist?"),
        ("data.name=minst", "did you mean mnist?"),
        ("privacy.unit=patient", "did you mean group?"),
        ("privacy.unit=client", "did you mean site?"),
        ("training.optimizer=adam", "did you mean adamw?"),
        ("federation.server_optimizer=FedAvg", "did you mean fedavg?"),
        ("device=gpu", "expected auto (CUDA, else CPU), cpu, cuda"),
        ("federation.rounds", "without blanks around ="),
    ],
)
def test_a_value_of_another_kind_is_answered_with_the_one_that_was_meant(
    override: str, answer: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(answer)) as caught:
        load_config(None, [override])
    assert str(caught.value).startswith(f"override {override!r}")


@pytest.mark.parametrize("override", ["xyz=1", "data.xyz=1", "training.zzz=2"])
def test_a_name_that_is_like_none_is_answered_with_those_that_are_valid_there(
    override: str,
) -> None:
    with pytest.raises(ConfigError, match=r"valid here: (seed|name|batch_size)"):
        load_config(None, [override])


def test_a_dotted_key_in_a_file_is_shown_how_it_is_written_there() -> None:
    with pytest.raises(ConfigError, match="write `rounds:` below `federation:`"):
        parse_config({"federation.rounds": 3}, source="s.yaml")


def test_a_sweep_is_called_one() -> None:
    with pytest.raises(ConfigError, match="this file is a sweep: use `phoenix-secure sweep`"):
        parse_config({"axes": {"seed": [0, 1]}}, source="s.yaml")


def test_the_fault_of_a_file_is_not_blamed_on_an_override() -> None:
    with pytest.raises(ConfigError, match=r"^s.yaml: unknown setting training.lr"):
        parse_config({"training": {"lr": 1}}, ["federation.rounds=3"], source="s.yaml")

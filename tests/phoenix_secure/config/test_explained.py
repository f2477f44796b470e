"""Every setting is explained, and a wrong name leads to the right one."""

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config.explained import explained
from phoenix_secure.errors import ConfigError


def _leaves(values: dict, prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_every_setting_of_a_run_has_a_sentence() -> None:
    entries = explained()
    assert _leaves(RunConfig().model_dump(mode="json")) <= {each.name for each in entries}
    assert not [each.name for each in entries if not each.meaning]
    assert len({each.name for each in entries}) == len(entries)


def test_defaults_are_those_that_a_run_has() -> None:
    shown = {each.name: each.default for each in explained("federation")}
    assert shown["federation.rounds"] == str(RunConfig().federation.rounds)


def test_bounds_and_names_stand_in_words() -> None:
    (epsilon,) = explained("privacy.epsilon")
    assert epsilon.default == "empty"
    assert epsilon.allowed == "above 0 and 1000 or less"
    (split,) = explained("data.split")
    assert split.allowed == "stratified | keyed"
    (window,) = explained("data.window")
    assert window.allowed == "2 values"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("epsilon", "privacy.epsilon"),
        ("privacy.epsilo", "privacy.epsilon"),
        ("dta", "data"),
        ("training.lr", "training.learning_rate"),
        ("max_grad_norm", "privacy.clip_norm"),
    ],
)
def test_a_wrong_name_leads_to_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {right}\\?"):
        explained(wrong)


def test_a_name_like_no_other_leads_to_the_list() -> None:
    with pytest.raises(ConfigError, match="config explain"):
        explained("x" * 10_000)

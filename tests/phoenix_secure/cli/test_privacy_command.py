"""`privacy`: noise for a budget, epsilon of a noise, and what ledgers hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.ledger import PrivacyLedger, Release


def test_noise_and_epsilon_are_inverse_to_each_other(cli) -> None:
    budget = ["--rate", "0.05", "--steps", "40", "--format", "json"]
    found = json.loads(cli("privacy", "noise", "--epsilon", "4", *budget).out)
    assert 3.9 < found["epsilon"] <= 4
    again = cli("privacy", "epsilon", "--noise", str(found["noise_multiplier"]), *budget)
    assert json.loads(again.out)["epsilon"] == pytest.approx(found["epsilon"])
    assert {"unit", "adjacency", "delta"} <= found.keys()
    text = cli("privacy", "epsilon", "--noise", "1", "--rate", "0.05", "--steps", "40").out
    assert "per image (add or remove one)" in text
    assert "pld (dp-accounting)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["noise", "--epsilon", "0", "--rate", "0.1", "--steps", "5"], "--epsilon 0: expected > 0"),
        (["noise", "--epsilon", "1", "--rate", "1.5", "--steps", "5"], "0 < rate <= 1"),
        (["epsilon", "--noise", "1", "--rate", "0.1", "--steps", "0"], "--steps 0"),
        (["epsilon", "--noise", "nan", "--rate", "0.1", "--steps", "5"], "--noise nan"),
        (["ledger", "missing"], "holds no privacy.jsonl"),
        (["ledger", ".", "--delta", "1"], "0 < delta < 1"),
    ],
)
def test_numbers_that_mean_nothing_are_named(cli, arguments: list[str], message: str) -> None:
    outcome = cli("privacy", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_ledgers_are_shown_run_by_run_and_in_all(cli, tmp_path: Path) -> None:
    for site, runs in (("a", ["one", "two"]), ("b", ["one"])):
        (tmp_path / site).mkdir()
        ledger = PrivacyLedger.open(tmp_path / site / "privacy.jsonl")
        for run in runs:
            event = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=5)
            ledger.charge(
                Release(id=run, plan=run, round_number=1, data="d", event=event),
                most=1,
                total=None,
            )
    outcome = cli("privacy", "ledger", str(tmp_path), "--format", "json")
    rows = {(row["site"], row["run"]): row for row in json.loads(outcome.out)["ledgers"]}
    assert set(rows) == {("a", "one"), ("a", "two"), ("a", "all runs"), ("b", "one")}
    one, both = rows["a", "one"]["epsilon"], rows["a", "all runs"]["epsilon"]
    assert one == rows["b", "one"]["epsilon"] < both < 2 * one
    assert "all runs" in cli("privacy", "ledger", str(tmp_path)).out

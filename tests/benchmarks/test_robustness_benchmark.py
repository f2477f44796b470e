"""The comparison of lies inside secure sums: the liar lies, the others do not, and it is undone."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark_modules import benchmark_module
from phoenix_secure.federation.site import site_input
from phoenix_secure.federation.site.worker import SiteWorker


@pytest.fixture(scope="module")
def robustness() -> Iterator[ModuleType]:
    with benchmark_module("robustness") as found:
        yield found


def test_liars_images_alone_are_changed(robustness: ModuleType) -> None:
    settings = [*robustness.BASE, *robustness.DEFENCES["default"]]
    honest = robustness.WithLiar("none", settings).partition
    for attack in ("labels", "mark"):
        found = robustness.WithLiar(attack, settings).partition
        for name in honest.parts:
            ours, theirs = honest.site_images(name), found.site_images(name)
            same = (ours.images == theirs.images).all() and (ours.labels == theirs.labels).all()
            assert same == (name != robustness.LIAR)


@pytest.mark.long
def test_rounds_with_a_liar_are_measured_and_nothing_of_the_lie_stays(
    robustness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [each for each in robustness.BASE if "rounds=" not in each and "num_images" not in each]
    quick += ["federation.rounds=2", "training.local_steps=1", "evaluation.num_images=50"]
    monkeypatch.setattr(robustness, "BASE", [*quick, "sampling.num_steps=2"])
    before = SiteWorker._train, site_input.encode_update
    rows = {
        attack: robustness.measure(attack, "tight", tmp_path / attack, seed=1)
        for attack in ("none", "noise", "absent")
    }
    assert (SiteWorker._train, site_input.encode_update) == before
    assert all(row["rounds"] == 2 and not row["refused"] for row in rows.values())
    weights = {}
    for attack in rows:
        run = robustness.RunFolder(tmp_path / attack)
        weights[attack] = run.load_state(config=run.load_config()).parameters
    moved = {name: np.linalg.norm(w - weights["none"]) for name, w in weights.items()}
    assert moved["noise"] > 0.7  # two rounds of half a clip norm, where honest steps are small
    assert 0 < moved["absent"] < 0.3
    table = tmp_path / "rows.csv"
    monkeypatch.setattr(
        sys, "argv", ["x", "--out", str(tmp_path / "no"), "--only", "x", "--csv", str(table)]
    )
    robustness.main()
    assert not table.exists()
    assert set(rows["none"]) <= set(robustness.COLUMNS)
    groups = robustness.measure("noise", "groups", tmp_path / "groups", seed=1)
    assert (groups["rounds"], groups["defence"]) == (2, "groups")
    run = robustness.RunFolder(tmp_path / "groups")
    away = run.load_state(config=run.load_config()).parameters - weights["none"]
    assert np.linalg.norm(away) < 2  # a mean over 15 sites would be moved by 6.7 a round
    with (tmp_path / "all.csv").open("w", newline="") as file:
        csv.DictWriter(file, robustness.COLUMNS).writerows(rows.values())


def test_groups_are_dealt_anew_and_their_median_is_the_servers_update(
    robustness: ModuleType,
) -> None:
    honest, weights = [np.full(3, 1.0)] * 14, [1.0] * 15
    mean = robustness.plaintext_round.mean_update
    with robustness.median_of_groups(0):
        found = robustness.plaintext_round.mean_update([*honest, np.full(3, -99.0)], weights)
    assert np.array_equal(found, np.ones(3))
    assert robustness.plaintext_round.mean_update is mean
    assert mean([*honest, np.full(3, -99.0)], weights)[0] < -5

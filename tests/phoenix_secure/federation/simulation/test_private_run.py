"""Whole private runs on real digits: what leaves, what is charged, and what a kill changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError, DataError, TrainingError
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.round.report import StageReport
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.site_input import SiteInput
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.ledger import PrivacyLedger
from protocol.words import centre

RECORD = ["privacy.unit=record", "privacy.noise_multiplier=1.0", "privacy.sampling_rate=0.1"]
SITE = ["privacy.unit=site", "privacy.noise_multiplier=0.5", "secure_aggregation.word_bits=32"]


def run(
    config: RunConfig, path: Path, cache_dir: Path
) -> tuple[ServerState, dict[str, Any], RunFolder]:
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(path)
    for _ in federation.rounds(federation.start(folder, overwrite=False), folder):
        pass
    summary = federation.finish(folder)
    return folder.load_state(config=config), summary, folder


def ledgers(path: Path) -> dict[str, PrivacyLedger]:
    files = sorted(path.glob("sites/*/privacy.jsonl"))
    return {file.parent.name: PrivacyLedger(file) for file in files}


@pytest.mark.long
@pytest.mark.parametrize("unit", [RECORD, SITE], ids=["record", "site"])
def test_the_ledgers_hold_what_the_run_states_and_no_metric_leaves(
    unit: list[str], secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *unit])
    _, summary, folder = run(config, tmp_path / "run", cache_dir)
    guarantee = summary.guarantee
    assert not list(folder.path.glob("sites/*/releases/*"))  # every result is in safe hands
    assert guarantee["unit"] == config.privacy.unit
    spent = {
        site: epsilon_of(ledger.events(), delta=1e-5).value
        for site, ledger in ledgers(folder.path).items()
    }
    assert len(spent) == 5
    # Every site answered in every round: all of the plan is spent, and no more.
    assert list(spent.values()) == [pytest.approx(guarantee["epsilon"])] * 5
    assert guarantee["per_site"] == pytest.approx(spent)
    for line in folder.read_metrics():
        assert line["loss"] is line["num_images"] is line["secure"]["clipped"] is None
    kinds = [entry.event for entry in read_ledger(ledger_file(folder.path)).entries]
    assert kinds.count("privacy") == 3
    for number, kind in enumerate(kinds):
        if kind == "privacy":  # before the round's sum, and after its beginning
            assert kinds[number - 1] == "round-started"
            assert "aggregated" in kinds[number:]


def test_in_the_clear_a_private_site_tells_its_noised_update_alone(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*tiny_settings, *RECORD])
    _, summary, folder = run(config, tmp_path / "run", cache_dir)
    assert {line["loss"] for line in folder.read_metrics()} == {None}
    assert all(len(ledger.releases()) == 4 for ledger in ledgers(folder.path).values())
    assert summary.guarantee["epsilon"] > 0
    told = load_config(None, [*tiny_settings, *RECORD, "privacy.release_metrics=true"])
    _, summary, folder = run(told, tmp_path / "told", cache_dir)
    assert all(line["num_images"] > 0 for line in folder.read_metrics())
    assert any("release_metrics is on" in each for each in summary.guarantee["warnings"])


class Killed(BaseException):
    """No handler may catch it."""


@pytest.mark.long
@pytest.mark.parametrize(
    "stage",
    [
        "mask",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("share", "check", "result")),
    ],
)
def test_a_killed_run_spends_nothing_twice(
    stage: str,
    secure_settings: list[str],
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config(None, [*secure_settings, *RECORD])
    made: list[int] = []
    make = SiteInput.make

    def counted(self, request, *, train):
        made.append(request.round_number)
        return make(self, request, train=train)

    monkeypatch.setattr(SiteInput, "make", counted)

    def train_until_killed(federation: Run, folder: RunFolder) -> None:
        state = federation.start(folder, overwrite=False)
        for event in federation.events(state, folder):
            if isinstance(event, StageReport) and (event.training_round, event.stage) == (2, stage):
                raise Killed

    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Killed):
        train_until_killed(federation, folder)
    before = {site: ledger.releases() for site, ledger in ledgers(folder.path).items()}
    kept = {path: path.read_bytes() for path in folder.path.glob("sites/*/releases/*.bin")}
    assert len(kept) == 5
    again = Run(SimulatedSites(config, cache_dir=cache_dir))
    steps = again.rounds(again.resume(folder), folder)
    next(steps)
    # The same noised answers entered the sum of round 2 as before the kill: none was made again.
    assert sorted(made) == [1] * 5 + [2] * 5
    assert not any(path.exists() for path in kept)
    for _ in steps:
        pass
    for site, ledger in ledgers(folder.path).items():
        assert len(ledger.releases()) == 3
        assert ledger.releases()[: len(before[site])] == before[site]


def test_the_server_unmasks_the_noised_sum_and_nothing_else(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Site level: words of the sum = rounded updates + all sites' Skellam shares."""
    entered: list[Any] = []
    seen: list[np.ndarray] = []
    from phoenix_secure.federation.server import secure_round

    original = SiteInput.make
    decode = secure_round.decode_sum

    def payload(self, request, *, train):
        found = original(self, request, train=train)
        entered.append(found)
        return found

    def decode_sum(words, extra, **terms):
        seen.append(words.copy())
        return decode(words, extra, **terms)

    monkeypatch.setattr(SiteInput, "make", payload)
    monkeypatch.setattr(secure_round, "decode_sum", decode_sum)
    config = load_config(None, [*secure_settings, *SITE, "federation.rounds=1"])
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    for _ in federation.rounds(federation.start(folder, overwrite=False), folder):
        pass
    assert len(entered) == 5
    assert federation.backend.terms is not None
    noise = federation.backend.terms.noise
    assert noise is not None
    clean = sum(each.words.astype(np.int64) for each in entered)
    total = sum(each.noise for each in entered)
    unmasked = np.array(centre(seen[0], word_bits=32), np.int64)[: clean.size]
    np.testing.assert_array_equal(unmasked, clean + total)
    assert not np.array_equal(unmasked, clean)
    # Five shares of variance sigma^2 / (t - c): at least the variance that is accounted for.
    assert np.var(total) == pytest.approx(5 * noise.share_variance, rel=0.2)
    assert np.var(total) > noise.event.variance
    for each in entered:
        assert np.linalg.norm(each.words.astype(float)) <= noise.l2_bound
        assert len(set(each.extra)) <= 3  # constants only


@pytest.mark.long
def test_the_site_whose_budget_is_spent_stops_and_the_others_go_on(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *RECORD])
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    state = federation.start(folder, overwrite=False)
    ledger = PrivacyLedger.open(folder.path / "sites" / "site-03" / "privacy.jsonl")
    assert federation.backend.privacy is not None
    steps = federation.rounds(state, folder)
    next(steps)
    first = ledger.releases()[0]
    for number in range(2):  # spent elsewhere under the same plan
        ledger.charge(dataclasses.replace(first, id=f"other {number}"), max_releases=3, total=None)
    reports = list(steps)
    assert [report.failures for report in reports] == [{"site-03": "budget"}] * 2
    assert all(len(report.sites) == 4 for report in reports)
    assert len(ledger.releases()) == 3
    assert federation.finish(folder).guarantee["epsilon"] is not None


@pytest.mark.long
def test_changed_images_are_refused_in_the_middle_of_a_run(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *RECORD, "secure_aggregation.max_attempts=1"])
    federation = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    steps = federation.rounds(federation.start(folder, overwrite=False), folder)
    next(steps)
    steps.close()
    again = Run(SimulatedSites(config, cache_dir=cache_dir))
    again.backend.partition = dataclasses.replace(
        again.backend.partition,
        parts={site: part[::-1].copy() for site, part in again.backend.partition.parts.items()},
    )
    with pytest.raises((DataError, TrainingError)):
        next(again.rounds(again.resume(folder), folder))
    assert all(len(ledger.releases()) == 1 for ledger in ledgers(folder.path).values())


@pytest.mark.long
def test_small_sites_are_refused_before_anything_is_written(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *RECORD, "privacy.sampling_rate=0.001"])
    with pytest.raises(ConfigError, match="samples less than one a step"):
        Run(SimulatedSites(config, cache_dir=cache_dir))


@pytest.mark.long
def test_secrets_stay_in_the_sites_folders(
    secure_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*secure_settings, *RECORD, "federation.rounds=1"])
    _, _, folder = run(config, tmp_path / "run", cache_dir)
    keys = [path.read_bytes() for path in folder.path.glob("sites/*/privacy.key")]
    assert len(set(keys)) == 5
    for path in folder.path.rglob("*"):
        if path.is_file() and path.name != "privacy.key":
            content = path.read_bytes()
            assert not any(key in content or key.hex().encode() in content for key in keys), path
    assert json.loads((folder.path / "summary.json").read_text())["guarantee"]["per_site"]

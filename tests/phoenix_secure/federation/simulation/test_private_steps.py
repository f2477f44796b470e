"""Private sums of gradients over simulated sites: what enters, what is charged, who may vanish."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError, TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.report import RoundReport, StageReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server import secure_round
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites
from phoenix_secure.federation.site.secure import SecureSite
from phoenix_secure.federation.site.site_input import SiteInput
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.events import DiscreteGaussianSum
from phoenix_secure.privacy.ledger import PrivacyLedger
from protocol.words import centre

SETTINGS = [
    "data.name=digits",
    "data.max_images=400",
    "partition.num_sites=5",
    "partition.scheme=shards",
    "federation.exchange=gradients",
    "federation.rounds=3",
    "federation.server_optimizer=fedadam",
    "secure_aggregation.word_bits=32",
    "secure_aggregation.dropout=0.2",
    "training.local_steps=1",
    "training.batch_size=8",
    "privacy.unit=record",
    "privacy.trust=sum",
    "privacy.epsilon=3",
    "privacy.sampling_rate=0.1",
    "model.block_channels=[8]",
    "model.attention=[false]",
    "sampling.num_steps=2",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "output.num_samples=4",
    "device=cpu",
]


def run_of(*overrides: str) -> Run:
    config = load_config(None, [*SETTINGS, *overrides])
    return Run(SimulatedSites(config, cache_dir=Path("unused")))


def ledgers(folder: Path) -> dict[str, PrivacyLedger]:
    files = sorted(folder.glob("sites/*/privacy.jsonl"))
    return {file.parent.name: PrivacyLedger(file) for file in files}


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[np.ndarray]]:
    """What the sites enter, and what the server unmasks."""
    entered: list[Any] = []
    unmasked: list[np.ndarray] = []
    make, decode = SiteInput.make, secure_round.decode_sum

    def made(self: SiteInput, *args: Any, **rest: Any) -> Any:
        entered.append(make(self, *args, **rest))
        return entered[-1]

    def decoded(words: Any, extra: Any, **rest: Any) -> Any:
        unmasked.append(np.array(centre(words, word_bits=32), np.int64))
        return decode(words, extra, **rest)

    monkeypatch.setattr(SiteInput, "make", made)
    monkeypatch.setattr(secure_round, "decode_sum", decoded)
    return entered, unmasked


@pytest.mark.long
def test_a_run_enters_noised_whole_numbers_and_charges_every_step(
    tmp_path: Path, sums: tuple[list[Any], list[np.ndarray]]
) -> None:
    run, folder = run_of(), RunFolder(tmp_path / "run")
    reports = list(run.rounds(run.start(folder, overwrite=False), folder))
    summary = run.finish(folder)
    guarantee, plan, terms = summary.guarantee, run.backend.privacy, run.backend.terms
    assert plan is not None
    assert terms is not None
    assert terms.noise is not None
    assert terms.grid is not None

    # The server unmasks the sum of what the sites entered, shares of noise included.
    entered, unmasked = sums
    assert len(entered) == 15
    for step in range(3):
        of_step = entered[5 * step : 5 * step + 5]
        total = sum(each.words.astype(np.int64) + each.noise for each in of_step)
        assert np.array_equal(unmasked[step], total)
        noise = sum(each.noise for each in of_step)
        assert np.var(noise) == pytest.approx(5 * terms.noise.share_variance, rel=0.1)
        assert np.var(noise) > plan.noise_multiplier**2 * terms.grid.squared_sensitivity
        assert len({each.extra for each in of_step}) == 1  # constants only
    # Nothing beside the sum leaves, and every site's ledger holds every step.
    assert {report.loss for report in reports} == {None}
    for ledger in ledgers(folder.path).values():
        assert ledger.events() == (plan.event,) * 3
        assert epsilon_of(ledger.events(), delta=1e-5).value == pytest.approx(guarantee["epsilon"])
    assert isinstance(plan.event, DiscreteGaussianSum)
    assert plan.event.num_shares == terms.threshold - terms.num_colluders == 3
    assert 2.9 < guarantee["epsilon"] <= 3
    assert guarantee["trust"]["surplus"] == pytest.approx(math.sqrt(5 / 3))
    assert guarantee["trust"]["epsilon_alone"] > guarantee["epsilon"]
    assert "at most 1 of 5 sites work with the server" in guarantee["text"]
    assert "sums of per-image clipped gradients" in guarantee["text"]
    assert set(guarantee["figures"]) >= {"pld (dp-accounting)", "prv (opacus)"}
    assert (guarantee["sampling_rate"], guarantee["steps"]) == (0.1, 3)


def failing(
    monkeypatch: pytest.MonkeyPatch, when: Callable[[str, str, int], bool]
) -> Callable[[], int]:
    """Sites vanish where ``when(site, stage, attempts begun)`` says so."""
    handle, begun = SecureSite.handle, dict[str, int]()

    def vanishing(self: SecureSite, stage: str, body: bytes, *, train: Any) -> bytes:
        site = self._identity.id
        if stage == "announce":
            begun[site] = begun.get(site, 0) + 1
        if when(site, stage, begun[site]):
            raise SiteFailure(FailureCode.ERROR, why="gone")
        return handle(self, stage, body, train=train)

    monkeypatch.setattr(SecureSite, "handle", vanishing)
    return lambda: sum(begun.values())


@pytest.mark.parametrize(
    "stage",
    [
        "mask",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("announce", "share", "check", "unmask", "result")
        ),
    ],
)
def test_who_vanishes_in_a_stage_leaves_the_guarantee_true(
    stage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sums: tuple[list[Any], list[np.ndarray]],
) -> None:
    failing(monkeypatch, lambda site, at, begun: site == "site-02" and at == stage)
    run, folder = run_of("federation.rounds=1"), RunFolder(tmp_path / "run")
    (report,) = run.rounds(run.start(folder, overwrite=False), folder)
    terms, plan = run.backend.terms, run.backend.privacy
    assert terms is not None
    assert terms.noise is not None
    assert plan is not None

    assert report.secure is not None
    assert report.secure.survivors >= terms.threshold
    entered, _ = sums
    # The noise of the survivors but the c that may work with the server is what was promised.
    left = sum(each.noise for each in entered[: report.secure.survivors - terms.num_colluders])
    assert np.var(left) > 0.9 * terms.num_honest * terms.noise.share_variance
    # Whose masked input may have left is charged, whoever is in the sum.
    charged = {site for site, ledger in ledgers(folder.path).items() if ledger.releases()}
    before_mask = stage in ("announce", "share", "mask")
    assert charged == set(run.backend.sites) - ({"site-02"} if before_mask else set())


@pytest.mark.long
def test_an_attempt_that_fails_after_the_mask_is_charged_once_and_sends_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums: tuple[list[Any], list[np.ndarray]]
) -> None:
    attempts = failing(
        monkeypatch,
        # The first attempt loses two sites of five between mask and check: no quorum.
        lambda site, at, begun: begun == 1 and at == "check" and site in ("site-01", "site-02"),
    )
    run, folder = run_of("federation.rounds=2"), RunFolder(tmp_path / "run")
    reports = list(run.rounds(run.start(folder, overwrite=False), folder))
    assert attempts() == 15  # one of five in vain, then one for each of two steps
    assert reports[0].secure is not None
    assert reports[0].secure.attempts == 2
    entered, unmasked = sums
    assert len(entered) == 10  # no noise was drawn twice for one step
    assert np.array_equal(
        unmasked[0], sum(each.words.astype(np.int64) + each.noise for each in entered[:5])
    )
    assert all(len(ledger.releases()) == 2 for ledger in ledgers(folder.path).values())


def test_a_step_that_is_given_up_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, lambda site, at, begun: at == "check" and site in ("site-01", "site-02"))
    run, folder = run_of("secure_aggregation.max_attempts=1"), RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match="no secure sum after 1 attempts"):
        list(run.rounds(run.start(folder, overwrite=False), folder))
    for ledger in ledgers(folder.path).values():
        assert [each.round_number for each in ledger.releases()] == [1]


class Killed(BaseException):
    """No handler may catch it."""


def test_a_killed_run_goes_on_with_the_same_words_and_charges_nothing_twice(
    tmp_path: Path, sums: tuple[list[Any], list[np.ndarray]]
) -> None:
    def until_killed(run: Run, folder: RunFolder) -> None:
        for event in run.events(run.start(folder, overwrite=False), folder):
            if isinstance(event, StageReport) and (event.training_round, event.stage) == (
                2,
                "mask",
            ):
                raise Killed

    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Killed):
        until_killed(run_of(), folder)
    before = {site: ledger.releases() for site, ledger in ledgers(folder.path).items()}
    assert {len(releases) for releases in before.values()} == {2}

    again = run_of()
    reports = list(again.rounds(again.resume(folder), folder))
    assert [report.round_number for report in reports if isinstance(report, RoundReport)] == [2, 3]
    entered, _ = sums
    assert len(entered) == 15
    for site, ledger in ledgers(folder.path).items():
        assert ledger.releases()[:2] == before[site]
        assert len(ledger.releases()) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("overrides", "fix"),
    [
        (["training.local_steps=5"], "needs training.local_steps=1"),
        (["privacy.trust=site-local"], "needs privacy.trust=sum"),
        (["privacy.release_metrics=true"], "needs privacy.release_metrics=false"),
        (["secure_aggregation.mode=off"], "needs secure_aggregation.mode=on"),
        (["training.compile=true"], "needs training.compile=false"),
        (["federation.exchange=updates"], "set release.features or federation.exchange=gradients"),
        (["secure_aggregation.word_bits=16"], "set secure_aggregation.word_bits=32"),
        (["partition.num_sites=4"], "needs at least 5 sites"),
        (["secure_aggregation.collusion=0.4"], "set secure_aggregation.collusion=0.2"),
        (
            ["privacy.sampling_rate=0.001", "privacy.epsilon=null", "privacy.noise_multiplier=1"],
            "samples less than one a step",
        ),
    ],
)
def test_plans_that_cannot_hold_are_refused_with_the_fix(overrides: list[str], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix) as refused:
        run_of(*overrides)
    assert "\n" not in str(refused.value)

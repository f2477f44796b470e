"""The ledger of a site: every release once, within the budget, whatever is killed when."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.errors import BudgetExhausted, CheckpointError, DataError
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.events import PoissonSampledGaussian, SkellamSum
from phoenix_secure.privacy.ledger import PrivacyLedger, Release

STEP = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=5)
SUM = SkellamSum(num_words=10, l2_sensitivity=4.0, variance=100.0, releases=1)


def release(id: str, **changes: object) -> Release:
    facts = {"plan": "p", "round_number": 1, "data": "d", "event": STEP} | changes
    return Release(id=id, **facts)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> PrivacyLedger:
    return PrivacyLedger.open(tmp_path / "privacy.jsonl")


def test_a_release_counts_once_however_often_it_is_sent(ledger: PrivacyLedger) -> None:
    for _ in range(3):
        ledger.charge(release("a"), max_releases=1, total=None)
    assert len(ledger.releases()) == 1
    # Another process, another object: the file says the same.
    again = PrivacyLedger(ledger.path)
    again.charge(release("a"), max_releases=1, total=None)
    assert again.events() == (STEP,)
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_the_release_after_the_last_is_refused_and_not_written(ledger: PrivacyLedger) -> None:
    ledger.charge(release("a"), max_releases=2, total=None)
    ledger.charge(release("b"), max_releases=2, total=None)
    before = ledger.path.read_bytes()
    for method in (ledger.check, ledger.charge):
        with pytest.raises(BudgetExhausted, match=r"all 2 releases .* are spent"):
            method(release("c"), max_releases=2, total=None)
    assert ledger.path.read_bytes() == before
    # One that is there already may be sent again.
    ledger.check(release("b"), max_releases=2, total=None)


def test_two_writers_of_one_file_cannot_overspend_together(ledger: PrivacyLedger) -> None:
    other = PrivacyLedger(ledger.path)
    ledger.charge(release("a"), max_releases=1, total=None)
    with pytest.raises(BudgetExhausted):
        other.charge(release("b"), max_releases=1, total=None)


def test_runs_add_up_and_the_site_stops_before_the_step(ledger: PrivacyLedger) -> None:
    total = Budget(epsilon=epsilon_of([STEP, STEP], delta=1e-5).value + 1e-9, delta=1e-5)
    ledger.charge(release("a", plan="one"), max_releases=9, total=total)
    ledger.charge(release("b", plan="two"), max_releases=9, total=total)
    with pytest.raises(BudgetExhausted, match=r"all runs on this site to epsilon .* above"):
        ledger.check(release("c", plan="three"), max_releases=9, total=total)
    assert ledger.events(plan="one") == (STEP,)


def test_images_and_whole_sites_do_not_add_up(ledger: PrivacyLedger) -> None:
    total = Budget(epsilon=100.0, delta=1e-5)
    ledger.charge(release("a", plan="one"), max_releases=9, total=total)
    with pytest.raises(BudgetExhausted, match="another unit"):
        ledger.check(release("b", plan="two", event=SUM), max_releases=9, total=total)


def test_changed_images_and_another_mechanism_within_a_run_are_refused(
    ledger: PrivacyLedger,
) -> None:
    ledger.charge(release("a"), max_releases=9, total=None)
    with pytest.raises(DataError, match="images changed"):
        ledger.check(release("b", data="other"), max_releases=9, total=None)
    with pytest.raises(BudgetExhausted, match="another mechanism"):
        ledger.check(release("b", event=SUM), max_releases=9, total=None)
    ledger.check(release("b", plan="next", data="other"), max_releases=9, total=None)


def test_a_line_cut_short_was_no_promise_and_a_changed_one_is_an_error(
    ledger: PrivacyLedger,
) -> None:
    ledger.charge(release("a"), max_releases=9, total=None)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"kind":"rel')
    reopened = PrivacyLedger(ledger.path)
    assert len(reopened.releases()) == 1
    reopened.charge(release("b"), max_releases=9, total=None)
    assert len(PrivacyLedger(ledger.path).releases()) == 2
    for damaged in (b"[]\n", b'{"kind":"x"}\n', whole.replace(b'"steps":5', b'"steps":0')):
        ledger.path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged in line 1"):
            PrivacyLedger(ledger.path)
    ledger.path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        PrivacyLedger(ledger.path)

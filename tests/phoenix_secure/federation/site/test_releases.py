"""A site's releases: what left is in the ledger, in every order of asks, kills and answers."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan, plan_privacy
from phoenix_secure.federation.site.kept_answers import KeptAnswers
from phoenix_secure.federation.site.releases import Releases
from phoenix_secure.privacy.ledger import PrivacyLedger


def plan_of(rounds: int) -> PrivacyPlan:
    config = load_config(
        None,
        ["privacy.unit=record", "privacy.noise_multiplier=1", f"federation.rounds={rounds}"],
    )
    plan = plan_privacy(config, terms=None)
    assert plan is not None
    return plan


PLAN = plan_of(rounds=6)


def opened(folder: Path, *, plan: PrivacyPlan = PLAN, run: str = "run") -> Releases:
    """A site's process after a start: nothing but what is on the disk."""
    return Releases(
        PrivacyLedger.open(folder / "privacy.jsonl"),
        kept=KeptAnswers(folder, plan=run),
        run=run,
        plan=plan,
        data="d",
    )


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 3), st.sampled_from([b"one", b"two"])),
    st.just(("answer",)),
    st.just(("kill",)),
    st.just(("kill while training", 1)),
    st.just(("diverge",)),
)


@given(st.lists(STEPS, max_size=25))
def test_the_ledger_equals_what_was_released_in_every_interleaving(steps: list[tuple]) -> None:
    fresh = itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = opened(folder)
        left: set[bytes] = set()  # distinct noised answers, and divergences, that left the site
        asked: tuple[int, bytes] | None = None
        for step in steps:
            match step:
                case ("ask", round_number, model):
                    asked = round_number, model
                    make = lambda: b"%d" % next(fresh)  # noqa: E731
                    if is_refused(site.prepare, round_number, model_hash=model, make=make):
                        assert len(left) >= PLAN.max_releases
                        asked = None
                case ("answer",) if asked is not None:
                    if not is_refused(site.charge, asked[0], model_hash=asked[1]):
                        left.add(site.prepare(asked[0], model_hash=asked[1], make=lambda: b""))
                case ("kill",):
                    # The server may still ask for the stage after; the session is gone.
                    site, asked = opened(folder), None
                case ("kill while training", _):
                    with pytest.raises((KeyboardInterrupt, SiteFailure)):
                        site.prepare(9, model_hash=b"killed", make=interrupted)
                    site, asked = opened(folder), None
                case ("diverge",):
                    with pytest.raises((TrainingError, SiteFailure)) as caught:
                        site.prepare(8, model_hash=b"diverged", make=diverged)
                    if caught.type is TrainingError:
                        left.add(b"diverged %d" % next(fresh))
                    asked = None
            ledger = PrivacyLedger(folder / "privacy.jsonl").releases()
            assert len(ledger) == len(left) <= PLAN.max_releases


def is_refused(act: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
    """Whether the budget forbids it; any other failure is one of the test."""
    try:
        act(*args, **kwargs)
    except SiteFailure as failure:
        if failure.code is not FailureCode.BUDGET:
            raise
        return True
    return False


def interrupted() -> bytes:
    raise KeyboardInterrupt


def diverged() -> bytes:
    raise TrainingError("diverged")


def test_the_kept_answer_comes_back_after_a_restart_and_is_charged_once(tmp_path: Path) -> None:
    body = opened(tmp_path).prepare(1, model_hash=b"m", make=lambda: b"noised")
    again = opened(tmp_path)
    assert again.prepare(1, model_hash=b"m", make=lambda: b"other noise") == body
    again.charge(1, model_hash=b"m")
    opened(tmp_path).charge(1, model_hash=b"m")
    assert len(PrivacyLedger(tmp_path / "privacy.jsonl").releases()) == 1
    assert (tmp_path / "releases" / "run.bin").stat().st_mode & 0o077 == 0


def test_the_budget_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    site = opened(tmp_path, plan=plan_of(rounds=1))
    site.prepare(1, model_hash=b"m", make=lambda: b"x")
    site.charge(1, model_hash=b"m")
    with pytest.raises(SiteFailure) as caught:
        site.prepare(2, model_hash=b"n", make=interrupted)
    assert caught.value.code is FailureCode.BUDGET


def test_a_refusal_after_training_is_a_release_and_the_answer_to_the_same_question_is_it_again(
    tmp_path: Path,
) -> None:
    site = opened(tmp_path)

    def refuses() -> bytes:
        raise SiteFailure(FailureCode.REFUSED)

    with pytest.raises(SiteFailure):
        site.prepare(1, model_hash=b"m", make=refuses)
    assert len(PrivacyLedger(tmp_path / "privacy.jsonl").releases()) == 1
    site.prepare(1, model_hash=b"m", make=lambda: b"the same training")
    site.charge(1, model_hash=b"m")
    assert len(PrivacyLedger(tmp_path / "privacy.jsonl").releases()) == 1


def test_nothing_unprepared_is_charged_and_a_damaged_answer_is_an_error(tmp_path: Path) -> None:
    site = opened(tmp_path)
    with pytest.raises(ValueError, match="prepared"):
        site.charge(1, model_hash=b"m")
    for file in ("releases/run.bin", "release.bin"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"\0\0\0\5{")
    with pytest.raises(CheckpointError, match=r"run\.bin is damaged"):
        site.prepare(1, model_hash=b"m", make=lambda: b"")
    with pytest.raises(CheckpointError, match=r"release\.bin is damaged"):
        KeptAnswers.take_over(tmp_path, plan_of=lambda id: None, noised=bytes)


def test_an_answer_belongs_to_one_plan(tmp_path: Path) -> None:
    """The same round from the same model under another plan is another release, with its noise."""
    for run in ("run", "other"):
        site = opened(tmp_path, run=run)
        site.prepare(1, model_hash=b"m", make=lambda run=run: b"noise of " + run.encode())
        site.charge(1, model_hash=b"m")
    assert opened(tmp_path).prepare(1, model_hash=b"m", make=bytes) == b"noise of run"
    ledger = PrivacyLedger(tmp_path / "privacy.jsonl")
    assert [each.plan for each in ledger.releases()] == ["run", "other"]
    assert len({each.id for each in ledger.releases()}) == 2


def test_an_answer_of_another_plan_is_not_read_where_it_was_copied(tmp_path: Path) -> None:
    opened(tmp_path, run="other").prepare(1, model_hash=b"m", make=lambda: b"other")
    folder = tmp_path / "releases"
    (folder / "other.bin").rename(folder / "run.bin")
    assert opened(tmp_path).prepare(1, model_hash=b"m", make=lambda: b"own") == b"own"


def test_an_answer_goes_when_its_result_is_safe_or_a_later_round_begins(tmp_path: Path) -> None:
    site, file = opened(tmp_path), tmp_path / "releases" / "run.bin"
    site.prepare(2, model_hash=b"m", make=lambda: b"two")
    site.settle(1)
    assert file.exists()
    site.settle(2)
    assert not file.exists()
    site.settle(2)
    site.prepare(3, model_hash=b"m", make=lambda: b"three")
    with pytest.raises(KeyboardInterrupt):
        site.prepare(4, model_hash=b"m", make=interrupted)
    assert not file.exists()


@pytest.mark.parametrize("is_charged", [True, False])
def test_an_answer_that_0_1_0_kept_moves_to_its_plan_or_goes(
    tmp_path: Path, is_charged: bool
) -> None:
    header = json.dumps({"round": 1, "model": b"m".hex(), "id": "entry"}).encode()
    old = tmp_path / "release.bin"
    old.write_bytes(len(header).to_bytes(4, "big") + header + b"words and noise")
    plans = {"entry": "run"} if is_charged else {}
    KeptAnswers.take_over(
        tmp_path, plan_of=plans.get, noised=lambda body: b"noised" if body else body
    )
    assert not old.exists()
    found = opened(tmp_path).prepare(1, model_hash=b"m", make=lambda: b"new")
    assert found == (b"noised" if is_charged else b"new")

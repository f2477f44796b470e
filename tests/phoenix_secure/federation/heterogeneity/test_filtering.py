"""A site's own refusal: counts, ties, readmission, and staying when it is asked again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.config import FilteringConfig, RunConfig, SecureAggregationConfig
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.heterogeneity.exchange import Exchange
from phoenix_secure.federation.heterogeneity.filtering import SelfEvaluator, judge_failures
from phoenix_secure.federation.heterogeneity.memory import Memory
from phoenix_secure.federation.heterogeneity.site_round import SiteStrategies
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.training.local import LocalUpdate

RULE = FilteringConfig(threshold=0.5, max_failures=2, first_round=1)


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 5))
def test_refusal_follows_the_last_failures_in_a_row(scores, max_failures) -> None:
    settings = FilteringConfig(threshold=0.5, max_failures=max_failures)
    failures = 0
    for number, score in enumerate(scores):
        found = judge_failures(score, failures=failures, settings=settings)
        failures = found.failures
        run = 0
        for earlier in reversed(scores[: number + 1]):
            if earlier >= 0.5:
                break
            run += 1
        assert (found.failures, found.refuses) == (run, run >= max_failures)


def test_a_score_equal_to_the_threshold_passes_and_nan_fails() -> None:
    assert not judge_failures(0.5, failures=9, settings=RULE).refuses
    assert judge_failures(float("nan"), failures=1, settings=RULE).refuses


def test_rounds_are_judged_from_the_first_one_on_every_so_many() -> None:
    settings = FilteringConfig(threshold=0.5, first_round=5, every_rounds=3)
    assert [r for r in range(1, 13) if settings.is_due(r)] == [5, 8, 11]
    assert not any(FilteringConfig(first_round=1).is_due(r) for r in range(1, 9))


def test_score_is_high_for_the_reference_itself_and_zero_for_images_far_away() -> None:
    def pixels(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)

    reference = np.random.default_rng(0).uniform(-1, 1, (30, 1, 4, 4)).astype(np.float32)
    for samples, expected in ((reference, 1.0), (reference * 0 + 50, 0.0)):
        judge = SelfEvaluator(
            FilteringConfig(threshold=0.5),
            reference=reference,
            extractor=pixels,
            draw=lambda parameters, round_number, samples=samples: samples,
        )
        assert judge.score(np.zeros(1), round_number=1) == expected


class Scores:
    """A judge whose scores are given."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.seen: list[np.ndarray] = []

    def score(self, parameters: np.ndarray, *, round_number: int) -> float:
        self.seen.append(parameters)
        return self.scores[round_number - 1]


class Site:
    """A site of two parameters, the second one personal, that adds 1 to both in a round."""

    def __init__(
        self,
        folder: Path,
        judge: Scores | None,
        rule: FilteringConfig = RULE,
        *,
        is_summed: bool = False,
    ) -> None:
        self.trained: list[np.ndarray] = []
        self.strategies = SiteStrategies(
            RunConfig(
                filtering=rule,
                secure_aggregation=SecureAggregationConfig(mode="on" if is_summed else "off"),
            ),
            exchange=Exchange(personal=np.array([False, True]), parts=(np.array([0]),)),
            memory=Memory(folder, keep=3),
            start=lambda: np.array([10.0], np.float32),
            num_images=7,
            judge=judge,
        )

    def ask(self, round_number: int) -> LocalUpdate | None:
        request = TrainRequest(round_number=round_number, parameters=np.zeros(1, np.float32))
        try:
            return self.strategies.answer(request, train=self._train)
        except SiteFailure as failure:
            if failure.code is not FailureCode.REFUSED:
                raise
            return None

    def _train(
        self, vector: np.ndarray, round_number: int, drift: np.ndarray | None
    ) -> LocalUpdate:
        self.trained.append(vector.copy())
        return LocalUpdate(
            delta=np.ones(2, np.float32), num_images=99, num_steps=1, loss=1.0, seconds=0.0
        )


def test_a_site_refuses_after_so_many_failures_and_is_readmitted_by_one_pass(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, Scores(0.1, 0.1, 0.1, 0.9, 0.1))
    assert [site.ask(n) is None for n in range(1, 6)] == [False, True, True, False, False]


def test_a_site_that_is_asked_again_stays_and_does_not_train_twice(tmp_path: Path) -> None:
    site = Site(tmp_path, Scores(0.1, 0.1))
    assert site.ask(1) is not None
    assert site.ask(2) is None
    assert site.ask(2) is not None
    assert len(site.trained) == 2


def test_a_site_that_was_restarted_in_between_stays_too(tmp_path: Path) -> None:
    first = Site(tmp_path, Scores(0.1, 0.1))
    assert first.ask(1) is not None
    assert first.ask(2) is None
    assert Site(tmp_path, Scores(0.1, 0.1)).ask(2) is not None


def test_between_two_judgements_a_site_refuses_without_training(tmp_path: Path) -> None:
    rule = FilteringConfig(threshold=0.5, max_failures=1, first_round=1, every_rounds=3)
    site = Site(tmp_path, Scores(0.1, 0.9, 0.9, 0.9), rule)
    assert [site.ask(n) is None for n in range(1, 5)] == [True, True, True, False]
    assert len(site.trained) == 2
    # Round 4 starts from the personal parameter after round 1, the only one trained so far.
    assert site.trained[1].tolist() == [0, 11]


def test_a_site_in_a_sum_trains_and_answers_in_every_round(tmp_path: Path) -> None:
    """A code in place of an answer, or one that comes sooner, would tell of its images."""
    rule = FilteringConfig(threshold=0.5, max_failures=1, first_round=1, every_rounds=3)
    site = Site(tmp_path, Scores(0.1, 0.9, 0.9, 0.9), rule, is_summed=True)
    answers = [site.ask(n) for n in range(1, 5)]
    assert [answer.sat_out for answer in answers] == [True, True, True, False]
    assert len(site.trained) == 4
    assert all(answer.delta.tolist() == [1] for answer in answers)
    assert site.ask(3).sat_out  # asked again it does what it did


def test_the_judge_sees_the_local_model_with_its_personal_parameters(tmp_path: Path) -> None:
    judge = Scores(0.9, 0.9)
    site = Site(tmp_path, judge)
    answers = [site.ask(1), site.ask(2)]
    assert [seen.tolist() for seen in judge.seen] == [[1, 11], [1, 12]]
    assert all(answer.delta.tolist() == [1] and answer.num_images == 7 for answer in answers)


def test_a_round_that_is_repeated_starts_from_the_personal_parameters_before_it(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, None)
    for number in (1, 2, 2, 3):
        site.ask(number)
    assert [vector[1] for vector in site.trained] == [10, 11, 11, 12]


def test_thresholds_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        FilteringConfig(threshold=1.5)

"""Inputs that a site's honest software would refuse, hidden in the sum like all others.

Until 0.1.0 such a sum was used: a mean update many times as long as any clip allows, or one that a
negative count made larger.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.server.journal import SecureJournal

CLIP = "secure_aggregation.clip_norm=1.58"


def enter(liar, parties, name: str, change: Callable[[np.ndarray], None]) -> None:
    """``name`` adds to its masked words; masks and signature stay as they should be."""
    cheat = liar(parties, name)
    terms = parties.terms
    size = terms.word_bits // 8
    words = terms.num_words + len(terms.metric_words.bounds)

    def lie(body: bytes, honest: Callable[[], bytes]) -> bytes:
        data = honest()
        packed = np.frombuffer(data[-words * size :], np.uint8).reshape(words, size)
        wide = np.zeros((words, 8), np.uint8)
        wide[:, :size] = packed
        values = wide.view("<i8")[:, 0].copy()
        change(values)
        changed = (values % (1 << terms.word_bits)).astype("<i8").view(np.uint8)
        content = changed.reshape(words, 8)[:, :size].tobytes()
        envelope_body = data[: -words * size][-(4 + 32 + 4) :] + content
        return cheat.reseal(name, data, body=envelope_body)

    cheat.lies_at("mask", lie)


def far(values: np.ndarray) -> None:
    values[:1000] += 1 << 22


def long(values: np.ndarray) -> None:
    values[:1000] += 1 << 17


def negative_count(values: np.ndarray) -> None:
    values[1000] -= 149


def huge_count(values: np.ndarray) -> None:
    values[1000] += 1 << 18


def impossible_count(values: np.ndarray) -> None:
    values[1000] -= 1000


@pytest.mark.parametrize("change", [far, long, negative_count, huge_count, impossible_count])
def test_sum_that_no_honest_sites_enter_is_not_used(
    secure_parties, liar, tmp_path: Path, change: Callable
) -> None:
    parties = secure_parties.Parties(tmp_path, CLIP, num_sites=5, num_parameters=1000)
    enter(liar, parties, "site-05", change)
    with pytest.raises(TrainingError, match="no honest sites enter such a sum") as caught:
        parties.sum()
    # The sum names nobody, and neither does the error: all of them, and what to do.
    assert all(name in str(caught.value) for name in parties.names)
    assert "--skip-round" in str(caught.value)
    # A site that enters what it should is taken again, in a later round.
    SecureJournal(parties.path / "server" / "rounds.jsonl").record_given_up(1)
    del parties.sites["site-05"].handle
    assert parties.sum(2).sites == parties.names


def test_the_disguise_itself_changes_nothing(secure_parties, liar, tmp_path: Path) -> None:
    parties = secure_parties.Parties(tmp_path, CLIP, num_sites=5, num_parameters=1000)
    enter(liar, parties, "site-05", lambda values: None)
    found = parties.sum()
    np.testing.assert_array_equal(found.update, parties.oracle(found.sites))
    assert np.linalg.norm(found.update) <= parties.terms.clip_norm * 1.001


def test_whatever_passes_is_no_longer_than_the_clip(secure_parties, liar, tmp_path: Path) -> None:
    """A lie within the bounds is a false input, which no sum can tell from a true one."""
    parties = secure_parties.Parties(tmp_path, CLIP, num_sites=5, num_parameters=1000)

    def small(values: np.ndarray) -> None:
        values[:1000] += int(0.001 * parties.terms.scale)

    enter(liar, parties, "site-05", small)
    found = parties.sum()
    assert np.linalg.norm(found.update) <= parties.terms.clip_norm * 1.001


def test_a_false_count_of_steps_does_not_hold_the_average_back(
    secure_parties, liar, tmp_path: Path
) -> None:
    """The model that a run exports is a moving average, whose decay follows from local steps."""
    more = ["training.local_steps=4", "ema.decay=0.9", "ema.warmup=false"]
    more += ["secure_aggregation.broadcast=sum"]

    def no_steps(values: np.ndarray) -> None:
        values[1001] -= 15  # five sites of four steps each; one for each must be left

    averages = []
    for name, change in (("honest", lambda values: None), ("lie", no_steps)):
        parties = secure_parties.Parties(tmp_path / name, *more, num_sites=5, num_parameters=1000)
        enter(liar, parties, "site-05", change)
        found = parties.next_round()
        averages.append(parties.state.ema)
    assert found.num_steps == 5
    np.testing.assert_array_equal(*averages)
    assert 0.3 < np.linalg.norm(averages[1]) / np.linalg.norm(parties.state.parameters) < 0.4

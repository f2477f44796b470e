"""Attack 28: tell from the server's transcript which of two inputs a site had.

Two runs whose inputs differ but whose sums are equal must look the same to the server: the same
bytes in every other message, and masked vectors that are uniform whatever is in them.
"""

import numpy as np
import pytest
from scipy import stats

from protocol.words import unpack

WORDS = 20_000


def transcript(federation, simulation, inputs):
    """All that the server sees of a round in which each site has the given constant input."""
    members = federation(num_words=WORDS, word_bits=24, collusion=0.2)
    members.words = lambda id: np.full(WORDS, inputs[members.ids.index(id)], dtype=np.int32)
    members.extra_words = lambda id: [0]
    attempt = simulation.Round(members)
    completed = attempt.run()
    uploads = {id: out for stage, id, _, out in attempt.log if stage == 2}
    rest = [out for stage, _, _, out in attempt.log if stage != 2]
    return members, uploads, rest, completed


def masked_words(members, upload):
    return unpack(upload[-members.spec.masked_size :], word_bits=24, num_words=WORDS + 1)


@pytest.fixture(scope="module")
def runs(simulation):
    """The same sum of 0 from opposite inputs of the first two sites; all randomness repeated."""
    return [
        transcript(simulation.Federation, simulation, inputs)
        for inputs in ([100, -100, 0, 0, 0], [-100, 100, 0, 0, 0])
    ]


def test_every_message_but_the_masked_vectors_is_the_same(runs):
    (_, _, first, one), (_, _, second, two) = runs
    assert first == second
    assert one.sum_digest == two.sum_digest
    assert one.transcript_hash == two.transcript_hash


def test_masked_vectors_are_uniform_whatever_the_input(runs):
    for members, uploads, _, _ in runs:
        for upload in uploads.values():
            words = masked_words(members, upload)
            for shift in (0, 8, 16):
                counts = np.bincount((words >> shift) & 0xFF, minlength=256)
                assert stats.chisquare(counts).pvalue > 1e-5


def test_no_difference_of_two_masked_vectors_shows_an_input(runs):
    members, uploads, _, _ = runs[0]
    vectors = [masked_words(members, upload)[:WORDS] for upload in uploads.values()]
    for i, first in enumerate(vectors):
        for second in vectors[i + 1 :]:
            for combined in (first - second, first + second):
                counts = np.bincount((combined & 0xFFFFFF) >> 16, minlength=256)
                assert stats.chisquare(counts).pvalue > 1e-5


def test_with_fresh_randomness_the_two_runs_cannot_be_told_apart(federation, simulation):
    # Two-sample test on the victim's vector: constant +100 against constant -100.
    samples = []
    for seed, value in ((b"one", 100), (b"two", -100)):
        members = federation(num_words=WORDS, word_bits=24, seed=seed)
        members.words = lambda id, value=value: np.full(WORDS, value, dtype=np.int32)
        attempt = simulation.Round(members)
        for _ in range(3):
            attempt.step()
        upload = next(out for stage, _, _, out in attempt.log if stage == 2)
        samples.append(masked_words(members, upload)[:WORDS])
    assert stats.ks_2samp(*samples).pvalue > 1e-4
    high = [np.bincount(words >> 16, minlength=256) for words in samples]
    assert stats.chi2_contingency(high).pvalue > 1e-4


def test_these_checks_do_see_an_unmasked_vector(runs):
    members, _, _, _ = runs[0]
    counts = np.bincount(members.words(members.ids[0]) & 0xFF, minlength=256)
    assert stats.chisquare(counts).pvalue < 1e-5

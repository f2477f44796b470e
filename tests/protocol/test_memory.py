"""Memory: one vector at the server, three at a site, whatever the number of sites."""

import tracemalloc

import pytest

NUM_WORDS = 3_000_000
VECTOR = 4 * NUM_WORDS


def peak_of(call):
    """Bytes allocated above the start while ``call`` ran, and its result."""
    tracemalloc.start()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, result


@pytest.mark.parametrize("word_bits", [24, 32])
def test_no_step_holds_more_than_its_share_of_vectors(federation, simulation, word_bits):
    members = federation(num_words=NUM_WORDS, word_bits=word_bits)
    attempt = simulation.Round(members)
    for _ in range(2):
        attempt.step()
    attempt.log.clear()
    answers = {}
    for id, data in attempt.outbound.items():
        peak, step = peak_of(lambda id=id, data=data: attempt.clients[id].receive(data))
        # The vector is there already; packed words and the message are new.
        assert peak < 2.2 * VECTOR
        answers[id] = step.outbound
    for id, data in answers.items():
        peak, _ = peak_of(lambda id=id, data=data: attempt.server.receive(id, data))
        # The accumulator is there already; one input is unpacked a chunk at a time.
        assert peak < 1.5 * 2**24
    attempt.outbound = attempt.server.close_stage().outbound
    attempt.stage = 3
    for _ in range(2):
        peak, _ = peak_of(attempt.step)
        assert peak < VECTOR

"""Every byte on the wire, and the sum, equal those of the second implementation."""

import pytest

from protocol.entropy import insecure_counter_entropy
from protocol.identity import SERVER

CASES = {
    "nobody vanishes": {},
    "before keys": {0: [1]},
    "before shares": {1: [4]},
    "before the input": {2: [0]},
    "before signing": {3: [2]},
    "before unmasking": {4: [3]},
}


def wire_of(attempt, absent):
    """Every message of the package's sessions, in the oracle's order."""
    wire, gone = [], set()
    for stage in range(5):
        gone |= set(absent.get(stage, ()))
        wire += [(SERVER, id, data) for id, data in attempt.outbound.items()]
        before = len(attempt.log)
        attempt.step(absent=gone)
        wire += [(id, SERVER, out) for _, id, _, out in attempt.log[before:]]
    return wire + [(SERVER, id, data) for id, data in attempt.outbound.items()]


@pytest.mark.parametrize("absent", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("word_bits", [16, 24, 32])
def test_every_message_and_the_sum_equal_the_oracle(
    federation, simulation, oracles, word_bits, absent
):
    members = federation(num_words=13, word_bits=word_bits, noise_variance=5.0)
    absent = {stage: [members.ids[i] for i in places] for stage, places in absent.items()}
    attempt = simulation.Round(members)
    wire = wire_of(attempt, absent)
    entropies = {
        id: insecure_counter_entropy(members.seed + b"/round/0/" + id.encode())
        for id in members.ids
    }
    oracle = oracles.Oracle(members, entropies, absent)
    expected_wire, total = oracle.run()
    assert wire == expected_wire
    completed = attempt.completed
    mask = (1 << word_bits) - 1
    assert [int(word) & mask for word in completed.words] == total[: members.spec.num_words]
    assert [value & mask for value in completed.extra] == total[members.spec.num_words :]
    assert completed.transcript_hash == oracle.transcript_hash
    assert total == [value & mask for value in members.expected(completed.survivors)]


def test_the_oracles_own_x25519_is_that_of_rfc_7748(oracles):
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert oracles.x25519(scalar, u).hex() == expected

"""Every byte on the wire, and the sum, equal those of the second implementation."""

import hashlib

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


def test_the_oracles_own_points_are_those_of_ed25519(oracles):
    """A public key of RFC 8032 is the clamped hash of the secret times the base point."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    clamped = number & ((1 << 254) - 8) | (1 << 254)
    assert oracles.point_bytes(oracles.times(clamped, oracles.BASE)).hex() == expected

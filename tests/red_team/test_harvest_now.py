"""Who records a round today and has a quantum computer later.

The attacker is the server, follows the protocol, keeps every message, and later computes the
discrete logarithm of every public point. In the classical suite it then has each site's update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from protocol.capsule import PairSecret
from protocol.group import write_scalar
from protocol.kem import CIPHERTEXT_SIZE
from protocol.keys import KeyPair, PublicKeys, channel_key_from, pair_key, self_key
from protocol.masks import add_masks
from protocol.messages import Envelope, MaskedInput, ShareKeys
from protocol.shamir import combine, lagrange_at_zero
from protocol.suite import Suite
from protocol.transport import SEALED_SIZE, associated_data, open_shares
from protocol.words import centre, unpack
from protocol_simulation import Federation, Round

VICTIM = "site-002"


@dataclass
class Recording:
    """All that a server sees in a round, and the logarithm of every point in it."""

    members: Federation
    suite: Suite
    keys: dict[str, PublicKeys]
    dealt: dict[str, ShareKeys]
    inputs: dict[str, bytes]
    h1: bytes
    h2: bytes
    mask_logs: dict[str, bytes]
    channel_logs: dict[str, bytes]
    self_logs: dict[str, bytes]  # of the points in the dealings, where there are such points


def record(suite: Suite) -> Recording:
    members = Federation(5, suite=suite)
    attempt = Round(members)
    attempt.step()
    states = {id: client._state for id, client in attempt.clients.items()}
    attempt.step()
    h1 = attempt.server._state.h2 and attempt.server._state.dealing.h1
    keys, dealt = dict(attempt.server._state.dealing.keys), dict(attempt.server._state.dealt)
    h2 = attempt.server._state.h2
    attempt.step()
    inputs = {id: reply for stage, id, _, reply in attempt.log if stage == 2}
    return Recording(
        members=members,
        suite=suite,
        keys=keys,
        dealt=dealt,
        inputs=inputs,
        h1=h1,
        h2=h2,
        mask_logs={id: state.mask_pair.secret for id, state in states.items()},
        channel_logs={id: state.channel_pair.secret for id, state in states.items()},
        self_logs={id: states[id].self_secret for id in dealt if dealt[id].head.self_mask_point},
    )


def opened(found: Recording, dealer: str, holder: str) -> tuple[bytes, bytes] | None:
    """The shares that ``dealer`` sealed for ``holder``, from the logarithms."""
    item = next(each for each in found.dealt[dealer].shares if each.holder == holder)
    extra, bound = (
        None,
        [
            item.mask_key_commitment,
            item.self_mask_commitment,
            found.dealt[dealer].head.self_mask_point,
        ],
    )
    if found.suite.is_hybrid:
        # What was encapsulated is in no point: the attacker goes on without it.
        extra = PairSecret(secret=b"", ciphertext=item.sealed[:CIPHERTEXT_SIZE])
        bound = [*bound, item.capsule]
    own = KeyPair(found.channel_logs[holder])
    key = channel_key_from(
        own.exchange(found.keys[dealer].channel[:32]),
        sender=found.keys[dealer],
        receiver=found.keys[holder],
        h1=found.h1,
        extra=extra,
    )
    associated = associated_data(
        h1=found.h1, sender=dealer, receiver=holder, commitments=bound, suite=found.suite
    )
    return open_shares(key, sealed=item.sealed[-SEALED_SIZE:], associated=associated)


def self_secret(found: Recording, victim: str) -> bytes | None:
    if victim in found.self_logs:
        return found.self_logs[victim]
    spec = found.members.spec
    shares = {}
    for holder in spec.cohort:
        both = opened(found, victim, holder) if holder != victim else None
        if both is not None:
            shares[spec.point(holder)] = both[1]
    if len(shares) < spec.threshold:
        return None
    points = sorted(shares)[: spec.threshold]
    weights = dict(zip(points, lagrange_at_zero(points), strict=True))
    return combine({point: shares[point] for point in points}, weights=weights)


def stolen(found: Recording, victim: str) -> list[int]:
    """The victim's words as far as the logarithms lead."""
    members, data = found.members, found.inputs[victim]
    body = Envelope.parse(data, peer=victim, max_size=len(data)).body
    packed = MaskedInput.decode(body, peer=victim, size=members.spec.masked_size).packed
    words = unpack(
        memoryview(packed), word_bits=32, num_words=members.spec.total_words, peer=victim
    ).copy()
    secret = self_secret(found, victim)
    masks = []
    if secret is not None:
        masks.append((self_key(secret, id=victim, h2=found.h2, suite=found.suite), -1))
    own = Advertised(found.mask_logs[victim], found.keys[victim].mask)
    for other, keys in found.keys.items():
        if other != victim:
            extra = None
            if found.suite.is_hybrid:
                low, high = sorted([victim, other])
                item = next(each for each in found.dealt[low].shares if each.holder == high)
                extra = PairSecret(secret=b"", ciphertext=item.capsule[4 : 4 + CIPHERTEXT_SIZE])
            key = pair_key(own, own_id=victim, peer=keys, h2=found.h2, extra=extra)
            masks.append((key, -1 if victim < other else 1))
    add_masks(words, masks)
    return [int(word) for word in centre(words, word_bits=32)]


class Advertised(KeyPair):
    """The victim's scalar, under the key that it advertised."""

    __slots__ = ("_advertised",)

    def __init__(self, scalar: bytes, advertised: bytes) -> None:
        super().__init__(scalar)
        self._advertised = advertised

    @property
    def advertised(self) -> bytes:
        return self._advertised


def truth(found: Recording) -> list[int]:
    members = found.members
    return [int(word) for word in members.words(VICTIM)] + members.extra_words(VICTIM)


def test_logarithms_open_a_recorded_round_of_the_classical_suite() -> None:
    """So the attack is one: what follows fails for the lattices alone."""
    found = record(Suite.CLASSICAL)
    assert stolen(found, VICTIM) == truth(found)


def test_logarithms_open_nothing_of_a_recorded_hybrid_round() -> None:
    found = record(Suite.HYBRID_PQ)
    assert found.self_logs == {}
    holders = [id for id in found.members.ids if id != VICTIM]
    assert [opened(found, VICTIM, holder) for holder in holders] == [None] * len(holders)
    assert self_secret(found, VICTIM) is None
    found_words, true_words = np.array(stolen(found, VICTIM)), np.array(truth(found))
    assert (found_words == true_words).sum() <= 1
    # Nor do the masks of the other sites cancel to it.
    assert write_scalar(1) not in found.mask_logs.values()


def test_shared_secret_does_not_follow_from_the_logarithm_of_its_key() -> None:
    """Scalar and encapsulation key come from a_u one way."""
    found = record(Suite.HYBRID_PQ)
    from protocol.own_keys import MaskKeys

    for id, log in found.mask_logs.items():
        guessed = MaskKeys(log, suite=found.suite, context=found.members.spec.context)
        assert guessed.advertised != found.keys[id].mask


@pytest.mark.parametrize("which", [0, 1])
def test_one_broken_half_of_a_signature_forges_nothing(which: int) -> None:
    from protocol.identity import verify_signature

    members = Federation(5, suite=Suite.HYBRID_PQ)
    honest = members.identities[VICTIM].sign(b"old message")
    forger = members.identities["site-003"].sign(b"new message")
    # The attacker can make one half at will: here it is right, of another key.
    halves = [honest[:64], honest[64:]]
    halves[which] = [forger[:64], forger[64:]][which]
    key = members.roster.key(VICTIM)
    mixed = [key[:32], key[32:]]
    other = members.roster.key("site-003")
    mixed[which] = [other[:32], other[32:]][which]
    assert not verify_signature(b"".join(mixed), signature=b"".join(halves), message=b"new message")

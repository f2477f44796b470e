"""Mutated bytes to every decoder: a value that encodes back to the same bytes, or a refusal."""

import time
import tracemalloc

import pytest

from protocol import Roster
from protocol.errors import ProtocolError, RemoteProtocolError
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    ConsistencyCheck,
    Envelope,
    KeyDirectory,
    MaskedInput,
    RoundAnnouncement,
    RoundResult,
    ShareDelivery,
    ShareKeys,
    SignatureQuorum,
    SurvivorList,
    Unmask,
)
from protocol.spec import RoundSpec
from protocol.suite import Suite
from protocol.words import unpack

PEER = "site-000"
QUICK = 4_000
LONG = 700_000


def envelope(data):
    Envelope.parse(data, peer=PEER, max_size=1 << 22)


def round_trip(decode):
    """A decoder whose accepted bytes must be the canonical encoding of what was read."""

    def target(data):
        assert decode(data).encode() == bytes(data)

    return target


def decoders(recorded):
    """(decoder, honest bytes) for each format that comes from outside."""
    size = recorded.members.spec.masked_size
    found = [(envelope, message) for message in recorded.corpus[:-1]]

    def body(message):
        return bytes(Envelope.parse(message, peer=PEER, max_size=len(message)).body)

    client = [body(m) for _, m in recorded.to_client]
    server = [body(m) for _, m in recorded.to_server]
    found += [
        (round_trip(lambda d: RoundAnnouncement.decode(d, peer=PEER)), client[0]),
        (round_trip(lambda d: RoundSpec.decode(d, peer=PEER)), client[0]),
        (round_trip(lambda d: KeyDirectory.decode(d, peer=PEER, max_members=5)), client[1]),
        (round_trip(lambda d: ShareDelivery.decode(d, peer=PEER, max_members=5)), client[2]),
        (round_trip(lambda d: SurvivorList.decode(d, peer=PEER, max_members=5)), client[3]),
        (round_trip(lambda d: SignatureQuorum.decode(d, peer=PEER, max_members=5)), client[4]),
        (round_trip(lambda d: RoundResult.decode(d, peer=PEER, max_members=5)), client[5]),
        (round_trip(lambda d: AdvertiseKeys.decode(d, peer=PEER)), server[0]),
        (round_trip(lambda d: ShareKeys.decode(d, peer=PEER, max_shares=5)), server[1]),
        (lambda d: MaskedInput.decode(d, peer=PEER, size=size), server[2]),
        (round_trip(lambda d: Complaint.decode(d, peer=PEER)), complaint(client[2])),
        (unmask, server[4]),
        (lambda d: Roster._read(d, suite=Suite.CLASSICAL), recorded.members.roster._body()),
        (
            lambda d: Roster.load(d, owner_key=recorded.members.owner.public_key),
            recorded.corpus[-1],
        ),
        (lambda d: unpack(d, word_bits=24, num_words=20), server[2][40:100]),
    ]
    return found


def complaint(delivery):
    """A complaint about the first share of a delivery."""
    share = ShareDelivery.decode(delivery, peer=PEER, max_members=5).shares[0]
    return Complaint(
        delivered=share, shared_point=bytes(32), challenge=bytes(32), response=bytes(32)
    ).encode()


def unmask(data):
    """Like the others, but a message with two shares of one dealer cannot be encoded again."""
    found = Unmask.decode(data, peer=PEER, max_shares=5)
    if len({share.dealer for share in found.shares}) == len(found.shares):
        assert found.encode() == bytes(data)


def fuzz(targets, mutate, count):
    """``count`` mutated inputs over all targets; how many were accepted, and the slowest."""
    accepted, slowest, blamed = 0, 0.0, set()
    for number in range(count):
        decode, honest = targets[number % len(targets)]
        data = mutate(honest)
        start = time.thread_time()
        try:
            decode(data)
            accepted += 1
        except RemoteProtocolError as error:
            blamed.add(error.peer)
        slowest = max(slowest, time.thread_time() - start)
    assert blamed <= {PEER, "roster", "sender"}
    return accepted, slowest


def test_the_honest_bytes_are_accepted(recorded):
    for decode, honest in decoders(recorded):
        decode(honest)


def test_mutated_bytes_are_refused_or_canonical(recorded, mutator):
    accepted, slowest = fuzz(decoders(recorded), mutator(1).mutate, QUICK)
    assert 0 < accepted < QUICK / 2
    assert slowest < 1.0


def test_memory_stays_bounded(recorded, mutator):
    targets = decoders(recorded)
    tracemalloc.start()
    try:
        fuzz(targets, mutator(2).mutate, QUICK // 4)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The largest honest message is below 4 KiB; a believed length prefix would ask for gigabytes.
    assert peak < 4 << 20


def test_a_length_prefix_of_four_gigabytes_allocates_nothing(recorded):
    for decode, honest in decoders(recorded):
        for at in range(0, min(len(honest), 200)):
            data = honest[:at] + b"\xff\xff\xff\xff" + honest[at + 4 :]
            tracemalloc.start()
            try:
                decode(data)
            except ProtocolError:
                pass
            finally:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
            assert peak < 1 << 20


@pytest.mark.slow
def test_seven_hundred_thousand_mutated_inputs(recorded, mutator):
    accepted, slowest = fuzz(decoders(recorded), mutator(3).mutate, LONG)
    assert 0 < accepted < LONG / 2
    assert slowest < 1.0


def test_unused_kinds_have_no_decoder():
    # A signature over a survivor set is checked by rebuilding its body, never by reading one.
    assert not hasattr(ConsistencyCheck, "decode")

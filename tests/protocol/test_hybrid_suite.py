"""The suite with lattice keys: the same sums, whoever drops out, and keys from both kinds."""

import dataclasses

import numpy as np
import pytest

from protocol import Identity, RemoteProtocolError, Roster
from protocol.capsule import CAPSULE_SIZE, Capsule, Ends
from protocol.group import public_point
from protocol.identity import key_size, signature_size, suite_of_key, verify_signature
from protocol.kem import decapsulate, encapsulate, is_kem_key, kem_key, kem_seed
from protocol.messages import AdvertiseKeys, Envelope, ShareKeys
from protocol.messages.limits import reply_limits
from protocol.offers import is_offered, offer_attachment, offer_paths, offer_root, read_offers
from protocol.own_keys import ChannelKeys, MaskKeys
from protocol.spec import RoundSpec
from protocol.suite import Suite
from protocol.words import centre

HYBRID = Suite.HYBRID_PQ
CONTEXT, H1 = bytes(range(32)), bytes(range(32, 64))
SECRET = bytes([7]) + bytes(31)


@pytest.fixture
def members(federation):
    return federation(6, collusion=0.1, suite=HYBRID)


def summed(members, completed):
    words = centre(completed.words, word_bits=members.spec.word_bits)
    return [int(word) for word in words] + list(completed.extra)


# Lower and higher ids drop out, before and after they dealt, one and several.
@pytest.mark.parametrize(
    "absent",
    [
        {},
        {2: ["site-000"]},
        {2: ["site-005"]},
        {1: ["site-003"]},
        {0: ["site-001"], 2: ["site-004"]},
        {3: ["site-002"]},
        {4: ["site-000", "site-005"]},
    ],
    ids=str,
)
def test_sum_is_exact_over_the_survivors(members, simulation, absent):
    completed = simulation.Round(members).run(absent=absent)
    gone = {id for stage, ids in absent.items() for id in ids if stage <= 2}
    survivors = [id for id in members.ids if id not in gone]
    assert completed.survivors == tuple(survivors)
    assert summed(members, completed) == members.expected(survivors)


@pytest.mark.parametrize(
    "how",
    [
        {"word_bits": 16, "scale": 20.0, "noise_variance": 4.0},
        {"num_sites": 9, "degree": 6, "share_threshold": 5, "word_bits": 24},
    ],
    ids=["noise", "regular graph"],
)
def test_other_rounds_are_summed_too(federation, simulation, how):
    members = federation(**({"num_sites": 7} | how), suite=HYBRID)
    completed = simulation.Round(members).run(absent={2: [members.ids[3]]})
    assert summed(members, completed) == members.expected(completed.survivors)


def test_messages_fit_the_limits_of_their_stage(members, simulation):
    attempt = simulation.Round(members)
    allowed = []
    for _ in range(simulation.STAGES):
        allowed.append(attempt.server.reply_limit)
        attempt.step()
    for stage, _, _, data in attempt.log:
        assert len(data) <= allowed[stage]
    keys = max(len(data) for stage, *_, data in attempt.log if stage == 0)
    assert keys == reply_limits(members.spec)[AdvertiseKeys.LABEL]


def test_nothing_public_is_a_multiple_of_what_is_shared(members, simulation):
    """A quantum computer takes a secret out of its multiple; in the classical suite both show."""
    attempt = simulation.Round(members)
    attempt.step()
    secrets = {
        id: (client._state.mask_pair.shared, client._state.self_secret)
        for id, client in attempt.clients.items()
    }
    attempt.run(absent={2: [members.ids[1]]})
    sent = b"".join(request + reply for *_, request, reply in attempt.log)
    points = [public_point(secret) for both in secrets.values() for secret in both]
    assert not [point for point in points if point in sent]


def test_both_ends_and_either_rebuilt_secret_give_one_pair_secret():
    low, high = (MaskKeys(bytes([n]) + bytes(31), suite=HYBRID, context=CONTEXT) for n in (3, 4))
    ends = Ends(maker="a", opener="b", h1=H1)
    capsule, made = Capsule.make(high.advertised[32:], mask_secret=low.shared, ends=ends)
    assert Capsule.decode(capsule.encode(), peer="x") == capsule
    assert len(capsule.encode()) == CAPSULE_SIZE
    opened = capsule.opened_by_seed(high.kem_seed, ends=ends)
    rebuilt = capsule.opened_by_maker(low.shared, ends=ends)
    assert opened.secret == rebuilt.secret == made.secret
    assert opened.ciphertext == rebuilt.ciphertext == made.ciphertext
    # Another attempt, other ends, another secret: nothing opens.
    for other in (Ends(maker="a", opener="c", h1=H1), Ends(maker="a", opener="b", h1=CONTEXT)):
        assert capsule.opened_by_seed(high.kem_seed, ends=other) is None
        assert capsule.opened_by_maker(low.shared, ends=other) is None
    assert capsule.opened_by_seed(low.kem_seed, ends=ends) is None
    assert capsule.opened_by_maker(high.shared, ends=ends) is None


def test_capsules_never_repeat_a_secret_or_a_pad():
    key = MaskKeys(SECRET, suite=HYBRID, context=CONTEXT)
    ends = Ends(maker="a", opener="b", h1=H1)
    made = [Capsule.make(key.advertised[32:], mask_secret=SECRET, ends=ends) for _ in range(4)]
    assert len({secret.secret for _, secret in made}) == 4
    assert len({capsule.pad for capsule, _ in made}) == 4


def test_rebuilt_mask_keys_are_those_of_before_and_of_one_attempt():
    first = MaskKeys(SECRET, suite=HYBRID, context=CONTEXT)
    assert first.advertised == MaskKeys(SECRET, suite=HYBRID, context=CONTEXT).advertised
    assert first.advertised != MaskKeys(SECRET, suite=HYBRID, context=H1).advertised
    classical = MaskKeys(SECRET, suite=Suite.CLASSICAL, context=CONTEXT)
    assert (classical.advertised, classical.kem_seed) == (public_point(SECRET), b"")
    assert first.public != classical.public


def test_each_dealer_is_offered_a_key_of_its_own_under_one_hash():
    ids = ("a", "b", "c", "d")
    own = ChannelKeys(bytes(32), suite=HYBRID, context=CONTEXT, me="b", dealers=ids)
    assert list(own.offers) == ["a", "c", "d"]
    assert len(set(own.offers.values())) == 3
    assert own.advertised[32:] == offer_root(own.offers)
    assert read_offers(offer_attachment(own.offers), peer="b", dealers=ids) == own.offers
    paths = offer_paths(own.offers)
    for dealer, key in own.offers.items():
        assert key == kem_key(own.kem_seed_for(dealer))
        assert paths[dealer] == own.path_to(dealer)
        for other in ids:
            fits = is_offered(key, dealer=other, root=own.advertised[32:], path=paths[dealer])
            assert fits is (other == dealer)
    with pytest.raises(RemoteProtocolError):
        read_offers(offer_attachment(own.offers)[:-1], peer="b", dealers=ids)


def test_kem_keys_come_from_seeds_and_only_sound_ones_pass():
    seed = kem_seed(SECRET, context=CONTEXT, info=[b"x"])
    secret, ciphertext = encapsulate(kem_key(seed))
    assert decapsulate(seed, ciphertext) == secret
    assert decapsulate(seed, ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])) != secret
    assert is_kem_key(kem_key(seed))
    for bad in (b"", bytes(1183), b"\xff" * 1184):
        assert not is_kem_key(bad)


def test_hybrid_signatures_need_both_halves():
    identity = Identity("a", seed=SECRET, suite=HYBRID)
    assert len(identity.public_key) == key_size(HYBRID)
    assert suite_of_key(identity.public_key) is HYBRID
    signature = identity.sign(b"message")
    assert len(signature) == signature_size(HYBRID)
    key = identity.public_key
    assert verify_signature(key, signature=signature, message=b"message")
    assert not verify_signature(key, signature=signature, message=b"another")
    other = Identity("a", seed=CONTEXT, suite=HYBRID).sign(b"message")
    for forged in (
        signature[:64] + other[64:],
        other[:64] + signature[64:],
        signature[:64],
        signature[64:],
        signature + b"\0",
        b"",
    ):
        assert not verify_signature(key, signature=forged, message=b"message")


def test_half_of_a_hybrid_signature_is_no_classical_one():
    """Not even by the classical key of the same seed."""
    hybrid = Identity("a", seed=SECRET, suite=HYBRID)
    classical = Identity("a", seed=SECRET)
    assert hybrid.public_key[:32] != classical.public_key
    half = hybrid.sign(b"message")[:64]
    for key in (classical.public_key, hybrid.public_key[:32]):
        assert not verify_signature(key, signature=half, message=b"message")
    borrowed = classical.sign(b"message") + hybrid.sign(b"message")[64:]
    assert not verify_signature(hybrid.public_key, signature=borrowed, message=b"message")


def test_roster_of_a_suite_is_read_back_and_none_mixes_them(members):
    signed = members.roster.sign(members.owner)
    read = Roster.load(signed, owner_key=members.owner.public_key)
    assert (read, read.suite) == (members.roster, HYBRID)
    keys = dict(members.roster.members)
    keys["site-000"] = Identity.generate("site-000").public_key
    with pytest.raises(ValueError, match="all of one suite"):
        Roster.create(
            federation_id="hospitals",
            owner_key=members.owner.public_key,
            server_key=members.roster.server_key,
            keys=keys,
        )


def test_spec_says_its_suite_and_the_classical_one_stays_unwritten(members, federation):
    assert RoundSpec.decode(members.spec.encode(), peer="server") == members.spec
    plain = dataclasses.replace(members.spec, suite=Suite.CLASSICAL)
    assert members.spec.encode().startswith(plain.encode())
    assert members.spec.context != plain.context
    with pytest.raises(RemoteProtocolError, match="suite"):
        RoundSpec.decode(members.spec.encode().replace(b"hybrid_pq", b"hybrid_px"), peer="server")


def test_server_makes_no_round_of_another_suite_than_its_roster(members):
    spec = dataclasses.replace(members.spec, suite=Suite.CLASSICAL)
    with pytest.raises(ValueError, match="suite"):
        members.server(spec)


def test_pair_masks_depend_on_both_kinds_of_keys(members, simulation):
    """Two sites' keys with the same points and other encapsulations differ, and the reverse."""
    from protocol.capsule import PairSecret
    from protocol.keys import PublicKeys, pair_key

    low, high = (MaskKeys(bytes([n]) + bytes(31), suite=HYBRID, context=CONTEXT) for n in (3, 4))
    peer = PublicKeys(id="b", mask=high.advertised, channel=b"")
    base = PairSecret(secret=bytes(32), ciphertext=bytes(1088))
    found = [
        pair_key(low, own_id="a", peer=peer, h2=H1, extra=base),
        pair_key(low, own_id="a", peer=peer, h2=H1),
        pair_key(high, own_id="a", peer=peer, h2=H1, extra=base),
        pair_key(low, own_id="a", peer=peer, h2=H1, extra=dataclasses.replace(base, secret=SECRET)),
        pair_key(
            low,
            own_id="a",
            peer=peer,
            h2=H1,
            extra=dataclasses.replace(base, ciphertext=bytes(1087) + b"\1"),
        ),
    ]
    assert len(set(found)) == len(found)


def test_shares_are_uniform_and_say_nothing_of_the_secret_alone(members, simulation):
    """t - 1 holders' items fit every secret: the responses are on a random polynomial."""
    attempt = simulation.Round(members)
    attempt.step()
    attempt.step()
    dealt = [
        ShareKeys.decode(
            bytes(Envelope.parse(data, peer=id, max_size=len(data)).body),
            peer=id,
            max_shares=99,
            suite=HYBRID,
        )
        for stage, id, _, data in attempt.log
        if stage == 1
    ]
    responses = [item.mask_key_response for each in dealt for item in each.shares]
    assert len(set(responses)) == len(responses)
    assert np.unique([item.sealed[:8] for each in dealt for item in each.shares]).size > 20
    assert {each.head.self_mask_point for each in dealt} == {b""}

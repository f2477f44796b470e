"""Every message reads back as it was written, and nothing else reads at all."""

import dataclasses

import pytest

from protocol.commitments import ShareKind
from protocol.entropy import insecure_counter_entropy
from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import Identity
from protocol.messages import (
    AdvertiseKeys,
    Complaint,
    DealingHead,
    DealtShare,
    DeliveredShare,
    Envelope,
    KeyDirectory,
    MaskedInput,
    RevealedShare,
    RoundAnnouncement,
    RoundResult,
    ShareDelivery,
    ShareKeys,
    SignatureQuorum,
    SurvivorList,
    Unmask,
    seal,
)
from protocol.transport import SEALED_SIZE

H = bytes(range(32))
ME = Identity.generate("u", entropy=insecure_counter_entropy(b"u"))


def dealt(holder):
    return DealtShare(
        holder=holder,
        mask_key_commitment=H,
        self_mask_commitment=bytes(32),
        mask_key_response=b"r" * 32,
        self_mask_response=b"s" * 32,
        sealed=b"" if holder == "u" else bytes(SEALED_SIZE),
    )


HEAD = DealingHead(
    h1=H,
    self_mask_point=b"p" * 32,
    challenge=b"c" * 32,
    mask_key_response=b"r" * 32,
    self_mask_response=b"s" * 32,
    root=b"t" * 32,
    signature=bytes(64),
)


def delivered(dealer):
    return DeliveredShare(dealer=dealer, head=HEAD, item=dealt("x"), path=bytes(33))


COMPLAINT = Complaint(
    delivered=delivered("v"), shared_point=H, challenge=bytes(32), response=b"z" * 32
)


def revealed(dealer, kind=ShareKind.SELF_MASK):
    return RevealedShare(dealer=dealer, kind=kind, share=b"S" * 32)


CASES = [
    (AdvertiseKeys(mask_key=H, channel_key=bytes(32)), {}),
    (ShareKeys(head=HEAD, shares=(dealt("u"), dealt("v"))), {"max_shares": 2}),
    (COMPLAINT, {}),
    (Unmask(h2=H, shares=(revealed("v"), revealed("w", ShareKind.MASK_KEY))), {"max_shares": 2}),
    (KeyDirectory(advertisements=(b"a", b"bc")), {"max_members": 2}),
    (ShareDelivery(dealers=("u", "v"), shares=(delivered("v"),)), {"max_members": 2}),
    (SurvivorList(h2=H, survivors=("u", "v")), {"max_members": 2}),
    (SignatureQuorum(signatures=(("u", bytes(64)), ("v", bytes(64)))), {"max_members": 2}),
    (RoundResult(h2=H, survivors=("u",), sum_digest=H), {"max_members": 2}),
]
NAMES = [type(message).__name__ for message, _ in CASES]


@pytest.mark.parametrize(("message", "limits"), CASES, ids=NAMES)
def test_a_message_reads_back(message, limits):
    assert type(message).decode(message.encode(), peer="u", **limits) == message


@pytest.mark.parametrize(("message", "limits"), CASES, ids=NAMES)
def test_every_cut_and_every_added_byte_is_refused(message, limits):
    data = message.encode()
    for bad in [data[:size] for size in range(len(data))] + [data + b"\x00"]:
        with pytest.raises(RemoteProtocolError) as caught:
            type(message).decode(bad, peer="u", **limits)
        assert caught.value.peer == "u"


@pytest.mark.parametrize(
    ("message", "limits"), [case for case in CASES if case[1]], ids=lambda case: ""
)
def test_more_items_than_allowed_are_refused(message, limits):
    fewer = {name: 0 for name in limits}
    with pytest.raises(RemoteProtocolError):
        type(message).decode(message.encode(), peer="u", **fewer)


def test_an_announcement_reads_back(federation):
    offer = RoundAnnouncement(spec=federation().spec)
    assert RoundAnnouncement.decode(offer.encode(), peer="server") == offer


def test_a_masked_input_reads_back_without_a_copy():
    data = b"".join(MaskedInput(h2=H, packed=b"abcdef").parts())
    read = MaskedInput.decode(data, peer="u", size=6)
    assert (read.h2, bytes(read.packed)) == (H, b"abcdef")
    assert read.packed.obj is data
    for size in (5, 7):
        with pytest.raises(RemoteProtocolError):
            MaskedInput.decode(data, peer="u", size=size)


@pytest.mark.parametrize("ids", [("v", "u"), ("u", "u")])
def test_sets_that_are_unsorted_or_repeated_are_refused(ids):
    with pytest.raises(RemoteProtocolError, match="not sorted or repeated"):
        SurvivorList.decode(
            SurvivorList(h2=H, survivors=ids).encode(), peer="server", max_members=5
        )


def test_only_the_own_part_of_a_dealing_may_be_unsealed():
    for holder, sealed in (("v", b""), ("u", bytes(SEALED_SIZE))):
        bad = dataclasses.replace(dealt(holder), sealed=sealed)
        body = ShareKeys(head=HEAD, shares=(bad,)).encode()
        with pytest.raises(RemoteProtocolError, match="sealed"):
            ShareKeys.decode(body, peer="u", max_shares=5)


def test_unknown_kinds_of_share_are_refused():
    body = Unmask(h2=H, shares=(revealed("v"),)).encode()
    with pytest.raises(RemoteProtocolError, match="kind"):
        Unmask.decode(
            body.replace(b"\x00\x00\x00\x01b", b"\x00\x00\x00\x01c"), peer="u", max_shares=5
        )


def test_both_shares_of_one_dealer_cannot_even_be_encoded():
    both = Unmask(h2=H, shares=(revealed("v"), revealed("v", ShareKind.MASK_KEY)))
    with pytest.raises(AssertionError, match="two shares"):
        both.encode()


def test_a_revealed_share_does_not_show_in_its_repr():
    assert "S" * 32 not in repr(revealed("v"))
    assert "S" * 32 not in repr(Unmask(h2=H, shares=(revealed("v"),)))


def test_an_envelope_is_bound_to_label_context_sender_and_body():
    data = seal(ME, label=AdvertiseKeys.LABEL, context=H, body=b"body")
    whole = Envelope.parse(data, peer="u", max_size=1000)
    assert whole.is_signed_by(ME.public_key)
    assert bytes(whole.body) == b"body"
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 1
        try:
            changed = Envelope.parse(bytes(bad), peer="u", max_size=1000)
        except RemoteProtocolError:
            continue
        assert not changed.is_signed_by(ME.public_key)


def test_a_body_in_parts_is_sealed_like_a_whole_one():
    whole = seal(ME, label=MaskedInput.LABEL, context=H, body=b"abcdef")
    assert whole == seal(ME, label=MaskedInput.LABEL, context=H, body=[b"abc", b"", b"def"])


@pytest.mark.parametrize("data", [b"", b"\x00" * 4, None, "text", 7, b"\xff" * 200])
def test_what_is_no_envelope_is_refused(data):
    with pytest.raises(RemoteProtocolError) as caught:
        Envelope.parse(data, peer="u", max_size=1000)
    assert caught.value.reason is Misbehaviour.MALFORMED


def test_an_envelope_above_the_limit_is_refused():
    data = seal(ME, label=AdvertiseKeys.LABEL, context=H, body=bytes(500))
    with pytest.raises(RemoteProtocolError, match="too large"):
        Envelope.parse(data, peer="u", max_size=len(data) - 1)

"""Envelopes under an independent implementation, and every byte of them covered."""

from __future__ import annotations

import json

import pytest
from securesystemslib.dsse import Envelope as IndependentEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from phoenix_secure.evidence.dsse import BadEnvelope, Envelope, key_id, pae, sign_envelope
from protocol import Identity

KIND = "application/vnd.in-toto+json"


def independent_key(identity: Identity) -> SSlibKey:
    id = key_id(identity.public_key)
    return SSlibKey(id, "ed25519", "ed25519", {"public": identity.public_key.hex()})


def test_pae_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_an_independent_implementation_accepts_the_signature(server: Identity) -> None:
    envelope = sign_envelope(b'{"a":1}', payload_type=KIND, identity=server)
    theirs = IndependentEnvelope.from_dict(envelope.to_dict())
    assert list(theirs.verify([independent_key(server)], threshold=1))


def test_the_independent_implementation_refuses_a_changed_payload(server: Identity) -> None:
    content = sign_envelope(b'{"a":1}', payload_type=KIND, identity=server).to_dict()
    theirs = IndependentEnvelope.from_dict(content)
    theirs.payload = b'{"a":2}'
    with pytest.raises(VerificationError):
        theirs.verify([independent_key(server)], threshold=1)


def test_an_envelope_survives_json(server: Identity) -> None:
    envelope = sign_envelope(b"content", payload_type=KIND, identity=server)
    read = Envelope.from_dict(json.loads(json.dumps(envelope.to_dict())))
    assert read == envelope
    assert read.open(server.public_key, payload_type=KIND) == b"content"


def test_another_type_or_key_is_refused(server: Identity) -> None:
    envelope = sign_envelope(b"content", payload_type=KIND, identity=server)
    with pytest.raises(BadEnvelope, match="holds"):
        envelope.open(server.public_key, payload_type="text/plain")
    other = Identity.generate("other").public_key
    with pytest.raises(BadEnvelope, match="no valid signature"):
        envelope.open(other, payload_type=KIND)


def test_every_bit_of_an_envelopes_text_is_covered(server: Identity) -> None:
    text = json.dumps(sign_envelope(b"content", payload_type=KIND, identity=server).to_dict())
    hint = text.index(key_id(server.public_key))
    for place in range(len(text)):
        if hint <= place < hint + 64:
            continue  # the key id is a hint that nobody signs
        changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with pytest.raises((BadEnvelope, json.JSONDecodeError)):
            Envelope.from_dict(json.loads(changed)).open(server.public_key, payload_type=KIND)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"payload": "", "payloadType": KIND},
        {"payload": "", "payloadType": KIND, "signatures": [], "more": 1},
        {"payload": 3, "payloadType": KIND, "signatures": []},
        {"payload": "!!", "payloadType": KIND, "signatures": []},
        {"payload": "YR==", "payloadType": KIND, "signatures": []},  # spare bits are set
        {"payload": "", "payloadType": KIND, "signatures": [{"keyid": "a"}]},
        {"payload": "", "payloadType": KIND, "signatures": [7]},
    ],
)
def test_malformed_envelopes_are_refused(value: object) -> None:
    with pytest.raises(BadEnvelope):
        Envelope.from_dict(value)

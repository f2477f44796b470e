"""Published test vectors through the functions that the protocol itself uses."""

import hashlib
import hmac
import json
from itertools import combinations
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol import keys, labels
from protocol.encoding import encode, encode_text
from protocol.group import write_scalar
from protocol.identity import Identity, verify_signature
from protocol.masks import cipher_stream
from protocol.shamir import evaluate, lagrange_at_zero

HERE = Path(__file__).parent
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def load(name: str, part: str) -> list[dict[str, str]]:
    content = json.loads((HERE / f"{name}.json").read_text())
    assert content["source"]
    assert content[part]
    return content[part]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("case", load("ed25519", "signatures"))
def test_public_points_are_those_of_ed25519(case):
    digest = hashlib.sha512(raw(case["seed"])).digest()
    clamped = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    assert keys.KeyPair(write_scalar(clamped)).public == raw(case["public"])


@pytest.mark.parametrize("case", load("ed25519", "signatures"))
def test_ed25519_signatures(case):
    signer = Identity("site", seed=raw(case["seed"]))
    message, signature = raw(case["message"]), raw(case["signature"])
    assert signer.public_key == raw(case["public"])
    assert signer.sign(message) == signature
    assert verify_signature(signer.public_key, signature=signature, message=message)
    assert not verify_signature(signer.public_key, signature=signature, message=message + b"x")
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    malleated = signature[:32] + s.to_bytes(32, "little")
    assert not verify_signature(signer.public_key, signature=malleated, message=message)


@pytest.mark.parametrize("case", load("hkdf_sha256", "derivations"))
def test_hkdf_sha256(case):
    okm = raw(case["okm"])
    hkdf = HKDF(algorithm=SHA256(), length=len(okm), salt=raw(case["salt"]), info=raw(case["info"]))
    assert hkdf.derive(raw(case["ikm"])) == okm
    assert rfc_5869(raw(case["ikm"]), raw(case["salt"]), raw(case["info"])) == okm[:32]


def test_the_key_schedule_is_hkdf_of_rfc_5869():
    seed, h2 = bytes(range(32)), bytes(range(100, 132))
    info = encode([labels.MASK_SELF, encode_text("site-a")])
    assert keys.self_key(seed, id="site-a", h2=h2) == rfc_5869(seed, h2, info)


def rfc_5869(ikm: bytes, salt: bytes, info: bytes) -> bytes:
    """The first block of HKDF-SHA256, from HMAC alone."""
    prk = hmac.digest(salt or bytes(32), ikm, hashlib.sha256)
    return hmac.digest(prk, info + b"\x01", hashlib.sha256)


@pytest.mark.parametrize("case", load("aes_256_ctr", "encryptions"))
def test_aes_256_ctr_through_the_seek_of_the_mask_streams(case):
    # The stream of a key starts at counter 0: a vector's counter block is a place in it.
    offset = 16 * int(case["counter"], 16)
    stream = cipher_stream(raw(case["key"]), offset_bytes=offset)
    assert stream.update(raw(case["plaintext"])) == raw(case["ciphertext"])
    inside = cipher_stream(raw(case["key"]), offset_bytes=offset + 5)
    assert inside.update(raw(case["plaintext"])[5:]) == raw(case["ciphertext"])[5:]


@pytest.mark.parametrize("case", load("aes_256_gcm", "decryptions"))
def test_aes_256_gcm(case):
    cipher, sealed = AESGCM(raw(case["key"])), raw(case["ct"] + case["tag"])
    if case["pt"] is None:
        with pytest.raises(InvalidTag):
            cipher.decrypt(raw(case["iv"]), sealed, raw(case["aad"]))
        return
    assert cipher.decrypt(raw(case["iv"]), sealed, raw(case["aad"])) == raw(case["pt"])
    assert cipher.encrypt(raw(case["iv"]), raw(case["pt"]), raw(case["aad"])) == sealed


@pytest.mark.parametrize("case", load("shamir", "sharings"), ids=lambda case: case["group"])
def test_shamir_shares_over_other_primes(case):
    prime = int(case["prime"], 16)
    secret, coefficient, *shares = (
        int.from_bytes(raw(text), case["byteorder"])
        for text in [case["secret"], case["coefficient"], *case["shares"]]
    )
    dealt = [evaluate([secret, coefficient], x=x, prime=prime) for x in (1, 2, 3)]
    assert dealt == shares
    for points in combinations((1, 2, 3), 2):
        weights = lagrange_at_zero(points, prime=prime)
        parts = [w * shares[x - 1] for w, x in zip(weights, points, strict=True)]
        assert sum(parts) % prime == secret

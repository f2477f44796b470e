"""Signatures by pinned keys; a seed never shows."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.entropy import insecure_counter_entropy
from protocol.identity import Identity, verify_signature

ME = Identity.generate("site-1", entropy=insecure_counter_entropy(b"me"))
# The order of the group: adding it to S is the classic malleation of an Ed25519 signature.
ORDER = 2**252 + 27742317777372353535851937790883648493


@given(st.binary(max_size=50))
def test_own_signatures_verify(message):
    assert verify_signature(ME.public_key, signature=ME.sign(message), message=message)


def test_another_message_key_or_signature_does_not_verify():
    signature = ME.sign(b"m")
    other = Identity.generate("site-2", entropy=insecure_counter_entropy(b"other"))
    assert not verify_signature(ME.public_key, signature=signature, message=b"n")
    assert not verify_signature(other.public_key, signature=signature, message=b"m")
    assert not verify_signature(ME.public_key, signature=bytes(64), message=b"m")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_signatures_of_another_size_do_not_verify(size):
    assert not verify_signature(ME.public_key, signature=bytes(size), message=b"m")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\xff" * 32])
def test_bytes_that_are_no_key_verify_nothing(key):
    assert not verify_signature(key, signature=ME.sign(b"m"), message=b"m")


def test_a_malleated_signature_does_not_verify():
    signature = ME.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    malleated = signature[:32] + s.to_bytes(32, "little")
    assert not verify_signature(ME.public_key, signature=malleated, message=b"m")


def test_an_identity_comes_back_from_its_seed():
    again = Identity("site-1", seed=ME.export_seed())
    assert again.public_key == ME.public_key
    assert again.sign(b"m") == ME.sign(b"m")


def test_the_seed_is_in_no_repr_and_no_copy():
    assert ME.export_seed().hex() not in repr(ME)
    assert "site-1" in repr(ME)
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            attempt(ME)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), "x" * 32])
def test_a_seed_of_another_size_is_refused(seed):
    with pytest.raises(ValueError, match="32 bytes"):
        Identity("site-1", seed=seed)


def test_an_id_that_is_no_id_is_refused():
    with pytest.raises(ValueError, match="expected an id"):
        Identity("../x", seed=bytes(32))

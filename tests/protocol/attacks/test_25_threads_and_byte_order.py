"""Attack 25, on ourselves: masks that differ between machines or thread counts do not cancel."""

import sys

import numpy as np
import pytest

from protocol.masks import CHUNK_BYTES, add_mask, add_masks

KEY = bytes(range(32))
# AES-256-CTR, key 00..1f, counter block 0: the first 16 bytes, from FIPS 197 by an ECB call.
FIRST_BLOCK = bytes.fromhex("f29000b62a499fd0a9f39a6add2e7780")


def test_the_first_words_are_fixed_for_every_machine():
    for dtype, size in ((np.uint32, 4), (np.uint16, 2)):
        words = np.zeros(16 // size, dtype=dtype)
        add_mask(words, KEY, sign=1)
        expected = [int.from_bytes(FIRST_BLOCK[i : i + size], "little") for i in range(0, 16, size)]
        assert words.tolist() == expected


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_vector_in_foreign_byte_order_is_refused_not_misread(order):
    native = "<" if sys.byteorder == "little" else ">"
    words = np.zeros(4, dtype=f"{order}u4")
    if order == native:
        add_mask(words, KEY, sign=1)
        assert words.any()
    else:
        with pytest.raises(ValueError, match="native"):
            add_mask(words, KEY, sign=1)
        assert not words.any()


@pytest.mark.parametrize("num_threads", [2, 3, 4, 16])
def test_threads_change_no_bit_of_a_long_vector(num_threads):
    size = 40 * CHUNK_BYTES // 4 + 3
    masks = [(bytes([i]) * 32, (-1) ** i) for i in range(4)]
    one, many = (np.arange(size, dtype=np.uint32) for _ in range(2))
    add_masks(one, masks, num_threads=1)
    add_masks(many, masks, num_threads=num_threads)
    assert np.array_equal(one, many)


@pytest.mark.parametrize("word_bits", [16, 24, 32])
def test_sites_and_server_with_different_numbers_of_threads_agree(
    federation, simulation, word_bits
):
    members = federation(num_words=1_100_003, word_bits=word_bits)
    clients = {
        id: members.client(id, num_threads=threads)
        for id, threads in zip(members.ids, (1, 2, 3, 4, 8), strict=True)
    }
    attempt = simulation.Round(members, server=members.server(num_threads=2), clients=clients)
    completed = attempt.run(absent={2: [members.ids[4]]})
    words = sum(members.words(id).astype(np.int64) for id in completed.survivors)
    modulus = 1 << word_bits
    assert np.array_equal(completed.words.astype(np.int64), words % modulus)
    assert len(completed.survivors) == 4

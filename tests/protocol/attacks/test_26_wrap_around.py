"""Attack 26: a sum that wraps around at the very end of its range, or noise that makes it do so."""

import dataclasses

import numpy as np
import pytest

from protocol.parameters import max_input, skellam_tail

BITS = [16, 24, 32]


@pytest.mark.parametrize("word_bits", BITS)
@pytest.mark.parametrize("num_sites", [5, 7])
def test_the_largest_input_is_accepted_and_one_more_is_not(federation, word_bits, num_sites):
    spec = federation(num_sites).spec
    bound = max_input(num_sites, word_bits=word_bits)
    at = dataclasses.replace(spec, word_bits=word_bits, scale=float(bound), clip=1.0)
    assert at.input_bound == bound
    for beyond in (float(bound + 1), np.nextafter(float(bound), np.inf)):
        with pytest.raises(ValueError, match="fit"):
            dataclasses.replace(spec, word_bits=word_bits, scale=beyond, clip=1.0)


@pytest.mark.parametrize("word_bits", BITS)
def test_one_site_more_than_fits_is_refused(federation, word_bits):
    bound = max_input(6, word_bits=word_bits)
    options = {"word_bits": word_bits, "scale": float(bound), "clip": 1.0}
    assert federation(6, **options).spec.input_bound == bound
    assert federation(5, **options).spec.input_bound == bound
    # 2^31 - 1 is prime, 6 does not divide what is left over: seven sites need more room.
    assert 7 * bound > 2 ** (word_bits - 1) - 1
    with pytest.raises(ValueError, match="fit"):
        federation(7, **options)


@pytest.mark.parametrize("word_bits", BITS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_sum_of_the_largest_inputs_decodes_exactly(federation, simulation, word_bits, sign):
    bound = max_input(5, word_bits=word_bits)
    members = federation(word_bits=word_bits, scale=float(bound), clip=1.0)
    members.words = lambda id: np.full(19, sign * bound, dtype=np.int64)
    completed = simulation.Round(members).run()
    half, modulus = 1 << (word_bits - 1), 1 << word_bits
    total = (completed.words.astype(np.int64) + half) % modulus - half
    assert np.array_equal(total, np.full(19, 5 * sign * bound))
    assert abs(5 * bound) < half


@pytest.mark.parametrize("word_bits", [24, 32])
def test_noise_takes_its_room_from_the_input(federation, word_bits):
    variance = 1e6
    noise = skellam_tail(5 * variance, num_words=19)
    bound = max_input(5, word_bits=word_bits, noise_bound=noise)
    assert bound < max_input(5, word_bits=word_bits)
    options = {"word_bits": word_bits, "clip": 1.0, "noise_variance": variance}
    assert federation(scale=float(bound), **options).spec.input_bound == bound
    with pytest.raises(ValueError, match="fit"):
        federation(scale=float(bound + 1), **options)


@pytest.mark.parametrize("word_bits", BITS)
def test_extra_words_have_the_same_bound(federation, word_bits):
    bound = (2 ** (word_bits - 1) - 1) // 5
    options = {"word_bits": word_bits, "scale": 1.0, "clip": 1.0}
    assert federation(extra_bounds=(bound, 1), **options)
    for bad in ((bound + 1,), (1, bound + 1), (0,)):
        with pytest.raises(ValueError, match="fit"):
            federation(extra_bounds=bad, **options)

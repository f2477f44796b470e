"""Any t shares rebuild the secret; t - 1 shares fit every secret equally well."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.entropy import insecure_counter_entropy
from protocol.group import write_scalar
from protocol.shamir import (
    PRIME,
    combine,
    evaluate,
    lagrange_at_zero,
    random_elements,
    random_polynomial,
    shares_at,
)

secrets = st.integers(0, PRIME - 1).map(write_scalar)


def split(secret, *, points, threshold, entropy):
    polynomial = random_polynomial(secret, threshold=threshold, entropy=entropy)
    return shares_at(points, polynomial=polynomial)


def is_prime(n):
    """Miller-Rabin with the first 20 primes as bases."""
    bases = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]
    if any(n % p == 0 for p in bases):
        return n in bases
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def test_the_prime_is_the_order_of_the_group():
    """RFC 8032, table 1."""
    assert PRIME == 2**252 + 27742317777372353535851937790883648493
    assert is_prime(PRIME)


@given(secrets, st.integers(1, 8), st.data())
def test_any_threshold_shares_rebuild_the_secret(secret, threshold, data):
    points = data.draw(st.lists(st.integers(1, 200), min_size=threshold, max_size=9, unique=True))
    entropy = insecure_counter_entropy(b"shares")
    shares = split(secret, points=points, threshold=threshold, entropy=entropy)
    chosen = data.draw(st.permutations(points))[:threshold]
    weights = dict(zip(chosen, lagrange_at_zero(chosen), strict=True))
    assert combine({x: shares[x] for x in chosen}, weights=weights) == secret


@pytest.mark.parametrize(("prime", "threshold"), [(5, 2), (5, 3), (7, 2), (7, 3)])
def test_fewer_shares_fit_every_secret_equally_often(prime, threshold):
    """Exhaustive over a tiny field: all polynomials, all sets of t - 1 points."""
    for points in itertools.combinations(range(1, prime), threshold - 1):
        seen = Counter()
        for polynomial in itertools.product(range(prime), repeat=threshold):
            shares = tuple(evaluate(polynomial, x=x, prime=prime) for x in points)
            seen[shares, polynomial[0]] += 1
        # Each pair of a view and a secret comes from the same number of polynomials.
        assert len(seen) == prime**threshold
        assert set(seen.values()) == {1}


@pytest.mark.parametrize("prime", [5, 7, 11])
def test_interpolation_at_zero_is_exact_over_a_tiny_field(prime):
    for points in itertools.combinations(range(1, prime), 3):
        weights = lagrange_at_zero(points, prime=prime)
        for polynomial in itertools.product(range(prime), repeat=3):
            values = [evaluate(polynomial, x=x, prime=prime) for x in points]
            total = sum(w * v for w, v in zip(weights, values, strict=True)) % prime
            assert total == polynomial[0]


def test_evaluation_equals_the_power_sum():
    polynomial = [3, 1, 4, 1, 5]
    expected = sum(a * 12**i for i, a in enumerate(polynomial)) % PRIME
    assert evaluate(polynomial, x=12) == expected


def test_a_share_off_the_polynomial_rebuilds_another_secret_or_none():
    secret = write_scalar(12345)
    points = [1, 2, 3]
    shares = split(secret, points=points, threshold=3, entropy=insecure_counter_entropy(b"x"))
    weights = dict(zip(points, lagrange_at_zero(points), strict=True))
    shares[2] = write_scalar(7)
    assert combine(shares, weights=weights) != secret


@pytest.mark.parametrize("share", [b"", bytes(31), bytes(33), PRIME.to_bytes(32, "little")])
def test_what_is_no_field_element_is_refused(share):
    weights = dict(zip([1, 2], lagrange_at_zero([1, 2]), strict=True))
    assert combine({1: bytes(32), 2: share}, weights=weights) is None


@pytest.mark.parametrize("points", [[], [0], [1, 1], [1, PRIME + 1], [PRIME]])
def test_points_that_are_zero_or_equal_have_no_weights(points):
    with pytest.raises(ValueError, match="distinct"):
        lagrange_at_zero(points)


@pytest.mark.parametrize(
    ("secret", "threshold"),
    [(bytes(31), 2), (PRIME.to_bytes(32, "little"), 2), (bytes(32), 0)],
)
def test_bad_arguments_are_refused(secret, threshold):
    with pytest.raises(ValueError, match="expected"):
        random_polynomial(secret, threshold=threshold, entropy=insecure_counter_entropy(b""))


def test_combine_wants_one_weight_per_share():
    with pytest.raises(ValueError, match="one weight"):
        combine({1: bytes(32)}, weights={2: 1})


def test_coefficients_fill_the_field():
    drawn = random_elements(2000, entropy=insecure_counter_entropy(b"spread"))
    assert all(0 <= value < PRIME for value in drawn)
    assert len(set(drawn)) == 2000
    # Half of a uniform sample lies above the middle, within five standard deviations.
    assert abs(sum(value > PRIME // 2 for value in drawn) - 1000) < 5 * 2000**0.5 / 2

"""The proof of a dealing: complete, and false for everything but shares of the very secret."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import Identity
from protocol.commitments import ShareKind
from protocol.dealing import DealtSecrets, DegreeTest, deal, proves_secrets, share_fits
from protocol.entropy import insecure_counter_entropy
from protocol.group import ORDER, public_point, write_scalar
from protocol.shamir import combine, evaluate, lagrange_at_zero, random_elements

SECRETS = DealtSecrets(
    mask_key=write_scalar(11**60),
    self_mask=write_scalar(13**60),
    context=b"c" * 32,
    h1=b"h" * 32,
)
POINTS = {f"s{i}": i for i in range(1, 8)}
DEALER = Identity.generate("s1", entropy=insecure_counter_entropy(b"dealer"))
MASK_POINT = public_point(SECRETS.mask_key)


def dealing(*, threshold=4, entropy=b"e"):
    return deal(
        SECRETS,
        dealer=DEALER,
        points=POINTS,
        threshold=threshold,
        seal_for=lambda holder, shares, commitments: b"",
        entropy=insecure_counter_entropy(entropy),
    )


def fits(dealt, shares, holder, kind):
    place = list(POINTS).index(holder)
    return share_fits(
        shares[holder][kind is ShareKind.SELF_MASK],
        item=dealt.shares[place],
        head=dealt.head,
        context=SECRETS.context,
        dealer="s1",
        kind=kind,
    )


def is_proven(dealt):
    return proves_secrets(dealt, context=SECRETS.context, dealer="s1", mask_point=MASK_POINT)


def passes_degree_test(dealt, threshold=4):
    test = DegreeTest(list(POINTS.values()), threshold=threshold)
    items, head = dealt.shares, dealt.head
    return test.passes(
        head.mask_key_response, [item.mask_key_response for item in items]
    ) and test.passes(head.self_mask_response, [item.self_mask_response for item in items])


def test_an_honest_dealing_passes_and_rebuilds_both_secrets():
    dealt, shares = dealing()
    assert is_proven(dealt)
    assert passes_degree_test(dealt)
    assert all(fits(dealt, shares, holder, kind) for holder in POINTS for kind in ShareKind)
    chosen = ["s2", "s3", "s5", "s7"]
    weights = dict(
        zip((POINTS[h] for h in chosen), lagrange_at_zero([POINTS[h] for h in chosen]), strict=True)
    )
    for place, secret in enumerate((SECRETS.mask_key, SECRETS.self_mask)):
        assert combine({POINTS[h]: shares[h][place] for h in chosen}, weights=weights) == secret
    assert dealt.head.self_mask_point == public_point(SECRETS.self_mask)


def test_a_higher_degree_is_found_by_the_degree_test_alone():
    dealt, shares = dealing(threshold=5)
    assert is_proven(dealt)
    assert all(fits(dealt, shares, holder, kind) for holder in POINTS for kind in ShareKind)
    assert not passes_degree_test(dealt, threshold=4)
    assert passes_degree_test(dealt, threshold=5)


def test_a_share_fits_nobody_else_and_no_other_kind_or_value():
    dealt, shares = dealing()
    swapped = shares | {"s2": shares["s3"]}
    assert not fits(dealt, swapped, "s2", ShareKind.MASK_KEY)
    turned = shares | {"s2": shares["s2"][::-1]}
    assert not fits(dealt, turned, "s2", ShareKind.MASK_KEY)
    for wrong in (b"", b"\xff" * 32, write_scalar(0)):
        assert not fits(dealt, shares | {"s2": (wrong, wrong)}, "s2", ShareKind.SELF_MASK)


@pytest.mark.parametrize(
    "change",
    [
        {"self_mask_point": MASK_POINT},
        {"challenge": write_scalar(5)},
        {"challenge": write_scalar(0)},
        {"mask_key_response": write_scalar(5)},
        {"self_mask_response": b"\xff" * 32},
        {"self_mask_point": bytes(32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_head_is_in_the_proof(change):
    dealt, _ = dealing()
    head = dataclasses.replace(dealt.head, **change)
    assert not is_proven(dataclasses.replace(dealt, head=head))


def test_commitments_cannot_be_changed_after_the_challenge():
    dealt, _ = dealing()
    first = dataclasses.replace(dealt.shares[0], self_mask_commitment=bytes(32))
    assert not is_proven(dataclasses.replace(dealt, shares=(first, *dealt.shares[1:])))


def test_the_proof_holds_for_one_context_dealer_and_key_only():
    dealt, _ = dealing()
    honest = {"context": SECRETS.context, "dealer": "s1", "mask_point": MASK_POINT}
    for change in (
        {"context": bytes(32)},
        {"dealer": "s2"},
        {"mask_point": public_point(MASK_POINT)},
    ):
        assert not proves_secrets(dealt, **(honest | change))


@given(st.integers(2, 9), st.data())
@settings(deadline=None)
def test_the_degree_test_is_membership_in_the_code(threshold, data):
    """Against interpolation: what t values fix decides every other one."""
    points = data.draw(st.lists(st.integers(1, 300), min_size=threshold, max_size=12, unique=True))
    polynomial = random_elements(threshold, entropy=insecure_counter_entropy(b"p"))
    values = [evaluate(polynomial, x=x) for x in [0, *points]]
    spoiled = data.draw(st.integers(0, len(points)))
    test = DegreeTest(points, threshold=threshold)

    def passes():
        at_zero, *others = (write_scalar(value) for value in values)
        return test.passes(at_zero, others)

    assert passes()
    values[spoiled] = (values[spoiled] + data.draw(st.integers(1, ORDER - 1))) % ORDER
    assert not passes()


@pytest.mark.parametrize(
    ("points", "threshold"), [([1, 1], 1), ([0, 1], 1), ([1, 2], 3), ([1, 2], 0)]
)
def test_points_that_no_dealing_has_are_refused(points, threshold):
    with pytest.raises(ValueError, match="distinct points"):
        DegreeTest(points, threshold=threshold)


def test_fewer_shares_than_the_threshold_fit_every_secret_although_the_proof_is_public():
    """For any other secret there are polynomials with the same shares and the same responses.

    f' = f + (s' - s) L and r' = r - d (s' - s) L, where L is 1 at zero and 0 at the known points.
    """
    dealt, shares = dealing()
    d = int.from_bytes(dealt.head.challenge, "little")
    known, secret, other = [2, 3, 5], int.from_bytes(SECRETS.mask_key, "little"), 424242
    for point in known:
        share = int.from_bytes(shares[f"s{point}"][0], "little")
        response = int.from_bytes(dealt.shares[point - 1].mask_key_response, "little")
        shift = (other - secret) * _vanishing(known, point) % ORDER
        assert shift == 0
        assert (response - d * (share + shift)) % ORDER == (response - d * share) % ORDER
    assert _vanishing(known, 0) == 1


def _vanishing(known, x):
    top = bottom = 1
    for point in known:
        top, bottom = top * (x - point), bottom * -point
    return top * pow(bottom, -1, ORDER) % ORDER

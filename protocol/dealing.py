"""Verifiable secret sharing: a dealer proves that its shares lie on one polynomial.

For a secret s = f(0) with f of degree below t, of which S = s B is public, the dealer draws a
blinding polynomial r of the same degree, commits to (f(i), r(i)) of each holder i by a hash, and
to r(0) by R = r(0) B. The challenge d is a hash over all of it; the responses are z(i) = r(i) +
d f(i) for each holder, and z(0).

The server checks once for each dealer that the responses lie on one polynomial of degree below t
(``DegreeTest``), that z(0) B = R + d S, and the challenge. A holder checks that its share opens
its commitment with r(i) = z(i) - d f(i). If t holders' shares do, then whatever t of these shares
rebuild is s: (f(0), f(1), ...) off every such polynomial would pass for one challenge out of
2^252 only. Nothing but S is shown: z is uniform, and the hashes hide what is uniform.

Both secrets of a site are dealt so, under one challenge. Group operations: a handful a dealer.

In the hybrid suite S and R are left out: a quantum computer takes s out of S. The proof then says
that the shares lie on one polynomial, and not which secret it has at zero. b_u is whatever the
shares rebuild; a_u is held against the advertised keys when it is rebuilt (``rebuilt``).

Source: Baghery (2023), eprint 2023/1669 (hash commitments and one blinding polynomial); Schnorr
(1991) for the value at zero; Cascudo and David (2017), SCRAPE, eprint 2017/216 (the degree test).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from protocol import labels
from protocol.commitments import ShareKind, opens, share_commitment
from protocol.encoding import encode, encode_text
from protocol.entropy import Entropy, os_entropy
from protocol.group import difference, multiple, public_point, read_scalar, write_scalar
from protocol.identity import Identity
from protocol.merkle import root_of
from protocol.messages.dealing import DealingHead, DealtShare
from protocol.messages.from_client import ShareKeys
from protocol.secrecy import NoCopies
from protocol.shamir import PRIME, evaluate, random_elements, random_polynomial, shares_at
from protocol.suite import Suite

__all__ = ["DealtSecrets", "DegreeTest", "deal", "proves_secrets", "share_fits"]

# Seals a holder's pair of shares beside these commitments; empty for the dealer itself.
SealFor = Callable[[str, tuple[bytes, bytes], list[bytes]], bytes]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class DealtSecrets(NoCopies):
    """a_u and b_u of one site in one attempt, and what they are bound to.

    ``capsules``: what some holders get beside their shares (hybrid suite).
    """

    mask_key: bytes
    self_mask: bytes
    context: bytes
    h1: bytes
    suite: Suite = Suite.CLASSICAL
    capsules: Mapping[str, bytes] = field(default_factory=dict)


def deal(
    secrets: DealtSecrets,
    *,
    dealer: Identity,
    points: Mapping[str, int],
    threshold: int,
    seal_for: SealFor,
    entropy: Entropy,
) -> tuple[ShareKeys, dict[str, tuple[bytes, bytes]]]:
    """The signed dealing among the holders in ``points``, and each holder's pair of shares.

    Raises:     ValueError for secrets that are no scalars.
    """
    kinds, suite = (ShareKind.MASK_KEY, ShareKind.SELF_MASK), secrets.suite
    values, blinds, blind_points, polynomials = [], [], [], []
    for secret in (secrets.mask_key, secrets.self_mask):
        polynomial = random_polynomial(secret, threshold=threshold, entropy=entropy)
        blinding = random_elements(threshold, entropy=entropy)
        values.append(shares_at(points.values(), polynomial=polynomial))
        blinds.append(shares_at(points.values(), polynomial=blinding))
        blind_points.append(public_point(write_scalar(blinding[0])))
        polynomials.append((polynomial, blinding))
    shares = {id: (values[0][point], values[1][point]) for id, point in points.items()}
    commitments = {
        id: [
            share_commitment(
                share,
                blind=blinds[place][point],
                context=secrets.context,
                dealer=dealer.id,
                holder=id,
                kind=kind,
                suite=suite,
            )
            for place, (kind, share) in enumerate(zip(kinds, shares[id], strict=True))
        ]
        for id, point in points.items()
    }
    self_mask_point, group_points = b"", []
    if not suite.is_hybrid:
        self_mask_point = public_point(secrets.self_mask)
        group_points = [public_point(secrets.mask_key), self_mask_point, *blind_points]
    challenge = _challenge(
        secrets.context,
        h1=secrets.h1,
        dealer=dealer.id,
        group_points=group_points,
        commitments=commitments,
        suite=suite,
    )
    d = int.from_bytes(challenge, "little")

    def responses(point: int) -> tuple[bytes, bytes]:
        found = [
            write_scalar(evaluate(blinding, x=point) + d * evaluate(polynomial, x=point))
            for polynomial, blinding in polynomials
        ]
        return found[0], found[1]

    items = []
    for id, point in points.items():
        of_mask, of_self = responses(point)
        capsule = secrets.capsules.get(id, b"")
        bound = [*commitments[id], self_mask_point, *([capsule] if suite.is_hybrid else [])]
        items.append(
            DealtShare(
                holder=id,
                mask_key_commitment=commitments[id][0],
                self_mask_commitment=commitments[id][1],
                mask_key_response=of_mask,
                self_mask_response=of_self,
                sealed=seal_for(id, shares[id], bound),
                capsule=capsule,
                suite=suite,
            )
        )
    of_mask, of_self = responses(0)
    head = DealingHead(
        h1=secrets.h1,
        self_mask_point=self_mask_point,
        challenge=challenge,
        mask_key_response=of_mask,
        self_mask_response=of_self,
        root=root_of([item.encode() for item in items]),
        signature=b"",
        suite=suite,
    )
    signed = head.sign(dealer, context=secrets.context)
    return ShareKeys(head=signed, shares=tuple(items)), shares


def share_fits(
    share: bytes,
    *,
    item: DealtShare,
    head: DealingHead,
    context: bytes,
    dealer: str,
    kind: ShareKind,
) -> bool:
    """Whether ``share`` is what ``dealer`` committed to and proved for the item's holder."""
    value = read_scalar(share)
    response, challenge = read_scalar(item.response(kind)), read_scalar(head.challenge)
    if value is None or response is None or challenge is None:
        return False
    computed = share_commitment(
        share,
        blind=write_scalar(response - challenge * value),
        context=context,
        dealer=dealer,
        holder=item.holder,
        kind=kind,
        suite=item.suite,
    )
    return opens(item.commitment(kind), computed)


def proves_secrets(dealt: ShareKeys, *, context: bytes, dealer: str, mask_point: bytes) -> bool:
    """Whether the head proves that both secrets' points belong to the committed shares.

    ``mask_point`` is the dealer's advertised mask key. Complete only together with ``DegreeTest``
    and ``share_fits``. In the hybrid suite the head shows the challenge alone, and no points.
    """
    head, suite = dealt.head, dealt.head.suite
    group_points = [] if suite.is_hybrid else _group_points(head, mask_point=mask_point)
    if group_points is None:
        return False
    expected = _challenge(
        context,
        h1=head.h1,
        dealer=dealer,
        group_points=group_points,
        suite=suite,
        commitments={
            item.holder: [item.mask_key_commitment, item.self_mask_commitment]
            for item in dealt.shares
        },
    )
    return head.challenge == expected


def _group_points(head: DealingHead, *, mask_point: bytes) -> list[bytes] | None:
    """The points that the challenge was made of, if the responses at zero belong to points."""
    secret_points = [mask_point, head.self_mask_point]
    blind_points = []
    try:
        for point, response in zip(
            secret_points, (head.mask_key_response, head.self_mask_response), strict=True
        ):
            if read_scalar(response) is None:
                return None
            blind_points.append(difference(public_point(response), multiple(head.challenge, point)))
    except ValueError:
        return None
    return secret_points + blind_points


class DegreeTest:
    """Whether values at zero and at ``points`` lie on one polynomial of degree below ``threshold``.

    A random word of the dual of the Reed-Solomon code: its product with values off every such
    polynomial is zero with probability 1 / PRIME. The word must stay unknown to the dealers.

    Raises:     ValueError for fewer than ``threshold`` points, or points that are not distinct.
    """

    def __init__(
        self, points: Sequence[int], *, threshold: int, entropy: Entropy = os_entropy
    ) -> None:
        places = [0, *points]
        if len(set(places)) != len(places) or not 1 <= threshold <= len(points):
            raise ValueError("expected distinct points above zero, at least threshold of them")
        factor = random_elements(len(places) - threshold, entropy=entropy)
        self._weights = []
        for x in places:
            product = 1
            for other in places:
                if other != x:
                    product = product * (x - other) % PRIME
            self._weights.append(evaluate(factor, x=x) * pow(product, -1, PRIME) % PRIME)

    def passes(self, at_zero: bytes, values: Sequence[bytes]) -> bool:
        """``values`` in the order of the points, as scalars in wire form."""
        total = 0
        for weight, data in zip(self._weights, [at_zero, *values], strict=True):
            value = read_scalar(data)
            if value is None:
                return False
            total += weight * value
        return total % PRIME == 0


def _challenge(
    context: bytes,
    *,
    h1: bytes,
    dealer: str,
    group_points: Sequence[bytes],
    commitments: Mapping[str, Sequence[bytes]],
    suite: Suite,
) -> bytes:
    """d: a hash of everything that the dealer fixed before, as a scalar."""
    committed = encode(encode([encode_text(id), *both]) for id, both in commitments.items())
    fields = [suite.label(labels.DEALING_CHALLENGE), context, h1, encode_text(dealer)]
    digest = hashlib.sha512(encode([*fields, encode(group_points), committed])).digest()
    return write_scalar(int.from_bytes(digest, "little"))

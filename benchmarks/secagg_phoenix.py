"""One site and the server's part for it, by the functions that the protocol's sessions call."""

from __future__ import annotations

import os

import numpy as np

from protocol import keys
from protocol.capsule import Capsule, Ends, PairSecret
from protocol.commitments import ShareKind
from protocol.complaints import opened_capsule
from protocol.dealing import DealtSecrets, DegreeTest, deal, proves_secrets, share_fits
from protocol.fixed_point import FixedPoint
from protocol.group import write_scalar
from protocol.identity import Identity
from protocol.kem import encapsulate
from protocol.masks import add_masks, cipher_stream
from protocol.merkle import root_of
from protocol.own_keys import ChannelKeys, MaskKeys
from protocol.parameters import max_input
from protocol.shamir import combine, lagrange_at_zero
from protocol.suite import Suite
from protocol.transport import associated_data, seal_shares
from protocol.words import pack, to_words, unpack

WORD_BITS = 24
CONTEXT, H1, H2 = (bytes([i]) * 32 for i in (1, 2, 3))


class PhoenixClient:
    """Site 1 of k + 1 on the complete graph, with k peers whose keys are real."""

    def __init__(
        self, *, num_neighbours: int, threshold: int, suite: Suite = Suite.CLASSICAL
    ) -> None:
        self.threshold, self.suite = threshold, suite
        bound = max_input(num_neighbours + 1, word_bits=WORD_BITS)
        self.format = FixedPoint(scale=bound / 8.0, clip=8.0, word_bits=WORD_BITS)
        self.identity = Identity.generate(_id(1), suite=suite)
        self.peers = []
        self.peer_keys: dict[str, MaskKeys] = {}
        for place in range(2, num_neighbours + 2):
            mask, channel = self._own_keys(place, [_id(1), _id(0)])
            self.peer_keys[_id(place)] = mask
            self.peers.append(
                keys.PublicKeys(
                    id=_id(place),
                    mask=mask.advertised,
                    channel=channel.advertised,
                    offer=channel.offers.get(_id(1), b""),
                )
            )
        points = [*range(1, num_neighbours + 2)]
        self.degree_test = DegreeTest(points, threshold=threshold)

    def _own_keys(self, place: int, dealers: list[str]) -> tuple[MaskKeys, ChannelKeys]:
        mask = MaskKeys(_scalar(), suite=self.suite, context=CONTEXT)
        channel = ChannelKeys(
            os.urandom(32), suite=self.suite, context=CONTEXT, me=_id(place), dealers=dealers
        )
        return mask, channel

    def share_keys(self) -> None:
        """Both key pairs, both proven sharings, one sealed message per peer."""
        self.mask_pair, channel = self._own_keys(1, [peer.id for peer in self.peers])
        self.self_secret = _scalar()
        self.me = keys.PublicKeys(
            id=_id(1), mask=self.mask_pair.advertised, channel=channel.advertised
        )
        capsules, self.pair_secrets = {}, {}
        for peer in self.peers if self.suite.is_hybrid else []:
            capsule, self.pair_secrets[peer.id] = Capsule.make(
                peer.mask[32:], mask_secret=self.mask_pair.shared, ends=_ends(peer.id)
            )
            capsules[peer.id] = capsule.encode()
        everyone = {member.id: member for member in [self.me, *self.peers]}

        def seal_for(holder: str, shares: tuple[bytes, bytes], commitments: list[bytes]) -> bytes:
            if holder == self.me.id:
                return b""
            receiver, extra = everyone[holder], None
            if self.suite.is_hybrid:
                secret, ciphertext = encapsulate(receiver.offer)
                extra = PairSecret(secret=secret, ciphertext=ciphertext)
            key = keys.channel_key_from(
                channel.exchange(receiver.channel[:32]),
                sender=self.me,
                receiver=receiver,
                h1=H1,
                extra=extra,
            )
            associated = associated_data(
                h1=H1,
                sender=self.me.id,
                receiver=holder,
                commitments=commitments,
                suite=self.suite,
            )
            sealed = seal_shares(key, shares=shares, associated=associated, entropy=os.urandom)
            return sealed if extra is None else extra.ciphertext + sealed

        self.dealt, self.shares = deal(
            DealtSecrets(
                mask_key=self.mask_pair.shared,
                self_mask=self.self_secret,
                context=CONTEXT,
                h1=H1,
                suite=self.suite,
                capsules=capsules,
            ),
            dealer=self.identity,
            points={id: place for place, id in enumerate(everyone, start=1)},
            threshold=self.threshold,
            seal_for=seal_for,
            entropy=os.urandom,
        )
        self.delivered = list(self.dealt.deliveries(self.me.id).values())[1:]

    def verify_dealing(self) -> None:
        """What the server checks of one dealer."""
        head, items = self.dealt.head, self.dealt.shares
        assert self.degree_test.passes(
            head.mask_key_response, [item.mask_key_response for item in items]
        )
        assert self.degree_test.passes(
            head.self_mask_response, [item.self_mask_response for item in items]
        )
        assert root_of([item.encode() for item in items]) == head.root
        assert head.is_signed_by(self.identity.public_key, dealer=self.me.id, context=CONTEXT)
        assert proves_secrets(
            self.dealt, context=CONTEXT, dealer=self.me.id, mask_point=self.mask_pair.public
        )

    def verify_held(self) -> None:
        """What a site checks of all shares that it holds: as many as it has peers, of one dealer.

        The channel keys are not in it: sealing needs them whatever is verified. In the hybrid
        suite the capsules are.
        """
        for share in self.delivered:
            assert share.is_dealt(
                holder=share.item.holder,
                public_key=self.identity.public_key,
                context=CONTEXT,
                h1=H1,
            )
            if self.suite.is_hybrid:
                seed = self.peer_keys[share.item.holder].kem_seed
                assert opened_capsule(share, kem_seed=seed) is not None
            for kind, value in zip(ShareKind, self.shares[share.item.holder], strict=True):
                assert share_fits(
                    value,
                    item=share.item,
                    head=share.head,
                    context=CONTEXT,
                    dealer=self.me.id,
                    kind=kind,
                )

    def masked_upload(self, values: np.ndarray, *, num_threads: int) -> bytes:
        """Quantise, derive and add k + 1 masks, pack."""
        integers = self.format.encode(values, key=os.urandom(32))
        words = to_words(integers, word_bits=WORD_BITS)
        add_masks(words, self._masks(), num_threads=num_threads)
        return pack(words, word_bits=WORD_BITS)

    def recover_dropped(self, total: np.ndarray, *, num_threads: int) -> None:
        """Check t shares, rebuild the mask seed, take the k pair masks off the sum."""
        points = range(1, self.threshold + 1)
        for place in points:
            assert share_fits(
                self.shares[_id(place)][0],
                item=self.dealt.shares[place - 1],
                head=self.dealt.head,
                context=CONTEXT,
                dealer=_id(1),
                kind=ShareKind.MASK_KEY,
            )
        weights = dict(zip(points, lagrange_at_zero(points), strict=True))
        secret = combine({p: self.shares[_id(p)][0] for p in points}, weights=weights)
        assert secret is not None
        pair = MaskKeys(secret, suite=self.suite, context=CONTEXT)
        assert pair.advertised == self.mask_pair.advertised
        masks = [(keys.pair_key(pair, own_id=_id(1), peer=peer, h2=H2), -1) for peer in self.peers]
        add_masks(total, masks, num_threads=num_threads)

    def unmask_survivor(self, upload: bytes, total: np.ndarray, *, num_threads: int) -> None:
        """Add one upload to the sum and take its self mask off again."""
        words = unpack(upload, word_bits=WORD_BITS, num_words=total.size)
        np.add(total, words, out=total)
        key = keys.self_key(self.self_secret, id=_id(1), h2=H2)
        add_masks(total, [(key, -1)], num_threads=num_threads)

    def decode(self, total: np.ndarray) -> np.ndarray:
        """The sum in the units of the inputs."""
        return self.format.decode_sum(total, num_clients=len(self.peers) + 1)

    def _masks(self) -> list[tuple[bytes, int]]:
        masks = [(keys.self_key(self.self_secret, id=_id(1), h2=H2), 1)]
        for peer in self.peers:
            masks.append((keys.pair_key(self.mask_pair, own_id=_id(1), peer=peer, h2=H2), 1))
        return masks


def aes_limit(num_bytes: int, *, chunk: int) -> None:
    """AES-256-CTR and nothing else: the speed that no mask can exceed on one thread."""
    zeros, out = bytes(chunk), bytearray(chunk)
    stream = cipher_stream(os.urandom(32))
    for _ in range(num_bytes // chunk):
        stream.update_into(zeros, out)


def _ends(opener: str) -> Ends:
    return Ends(maker=_id(1), opener=opener, h1=H1)


def _scalar() -> bytes:
    return write_scalar(int.from_bytes(os.urandom(64), "little"))


def _id(place: int) -> str:
    return f"site-{place:03}"

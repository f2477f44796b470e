"""One site and the server's part for it, by the functions that the protocol's sessions call."""

from __future__ import annotations

import os

import numpy as np

from protocol import keys
from protocol.commitments import ShareKind, seed_commitment, share_commitment
from protocol.fixed_point import FixedPoint
from protocol.masks import add_masks, cipher_stream
from protocol.parameters import max_input
from protocol.shamir import combine, lagrange_at_zero, split
from protocol.transport import associated_data, seal_shares
from protocol.words import pack, to_words, unpack

WORD_BITS = 24
CONTEXT, H1, H2 = (bytes([i]) * 32 for i in (1, 2, 3))


class PhoenixClient:
    """Site 1 of k + 1 on the complete graph, with k peers whose keys are real."""

    def __init__(self, *, num_neighbours: int, threshold: int) -> None:
        self.threshold = threshold
        bound = max_input(num_neighbours + 1, word_bits=WORD_BITS)
        self.format = FixedPoint(scale=bound / 8.0, clip=8.0, word_bits=WORD_BITS)
        self.peers = []
        for place in range(2, num_neighbours + 2):
            mask, channel = (keys.X25519Pair(os.urandom(32)) for _ in range(2))
            self.peers.append(
                keys.PublicKeys(id=_id(place), mask=mask.public, channel=channel.public)
            )

    def share_keys(self) -> None:
        """Both key pairs, both sharings, commitments, one sealed message per peer."""
        self.mask_seed, self.self_seed = os.urandom(32), os.urandom(32)
        self.mask_pair = keys.X25519Pair.from_mask_seed(self.mask_seed, context=CONTEXT)
        channel = keys.X25519Pair(os.urandom(32))
        me = keys.PublicKeys(id=_id(1), mask=self.mask_pair.public, channel=channel.public)
        points = range(1, len(self.peers) + 2)
        self.mask_shares, self_shares = (
            split(seed, points=points, threshold=self.threshold, entropy=os.urandom)
            for seed in (self.mask_seed, self.self_seed)
        )
        own = seed_commitment(self.self_seed, context=CONTEXT, dealer=me.id)
        for place, holder in enumerate([me, *self.peers], start=1):
            shares = (self.mask_shares[place], self_shares[place])
            commitments = [
                share_commitment(share, context=CONTEXT, dealer=me.id, holder=holder.id, kind=kind)
                for share, kind in zip(shares, ShareKind, strict=True)
            ]
            if holder is not me:
                seal_shares(
                    keys.channel_key(channel, sender=me, receiver=holder, h1=H1),
                    shares=shares,
                    associated=associated_data(
                        h1=H1,
                        sender=me.id,
                        receiver=holder.id,
                        commitments=[*commitments, own],
                    ),
                    entropy=os.urandom,
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
        ids = [_id(place) for place in points]
        for place, holder in zip(points, ids, strict=True):
            share_commitment(
                self.mask_shares[place],
                context=CONTEXT,
                dealer=_id(1),
                holder=holder,
                kind=ShareKind.MASK_KEY,
            )
        weights = dict(zip(points, lagrange_at_zero(points), strict=True))
        seed = combine({p: self.mask_shares[p] for p in points}, weights=weights)
        assert seed == self.mask_seed
        pair = keys.X25519Pair.from_mask_seed(seed, context=CONTEXT)
        masks = [(keys.pair_key(pair, own_id=_id(1), peer=peer, h2=H2), -1) for peer in self.peers]
        add_masks(total, masks, num_threads=num_threads)

    def unmask_survivor(self, upload: bytes, total: np.ndarray, *, num_threads: int) -> None:
        """Add one upload to the sum and take its self mask off again."""
        words = unpack(upload, word_bits=WORD_BITS, num_words=total.size)
        np.add(total, words, out=total)
        key = keys.self_key(self.self_seed, id=_id(1), h2=H2)
        add_masks(total, [(key, -1)], num_threads=num_threads)

    def decode(self, total: np.ndarray) -> np.ndarray:
        """The sum in the units of the inputs."""
        return self.format.decode_sum(total, num_clients=len(self.peers) + 1)

    def _masks(self) -> list[tuple[bytes, int]]:
        masks = [(keys.self_key(self.self_seed, id=_id(1), h2=H2), 1)]
        for peer in self.peers:
            masks.append((keys.pair_key(self.mask_pair, own_id=_id(1), peer=peer, h2=H2), 1))
        return masks


def aes_limit(num_bytes: int, *, chunk: int) -> None:
    """AES-256-CTR and nothing else: the speed that no mask can exceed on one thread."""
    zeros, out = bytes(chunk), bytearray(chunk)
    stream = cipher_stream(os.urandom(32))
    for _ in range(num_bytes // chunk):
        stream.update_into(zeros, out)


def _id(place: int) -> str:
    return f"site-{place:03}"

"""A site's own keys of one attempt, in either suite.

The secret a_u that a site shares *is* its mask key's scalar in the classical suite: its multiple of
the base point, the public mask key, binds the dealer to it. A quantum computer takes the scalar
back out of the point. In the hybrid suite scalar and ML-KEM seed are therefore both derived from
a_u, one way, and nothing public is a multiple of a_u or b_u: the rebuilt a_u is held against the
advertised key instead (``rebuilt``).

Channel keys are never shared. Each dealer gets an encapsulation key of its own, under one hash
that is signed: to show what one dealer sealed, a complaint gives away that dealer's key and no
other (``complaints``).
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol import labels
from protocol.encoding import encode_text
from protocol.kem import kem_key, kem_seed
from protocol.keys import KeyPair, secret_scalar
from protocol.offers import offer_paths, offer_root
from protocol.suite import Suite

__all__ = ["ChannelKeys", "MaskKeys"]


class MaskKeys(KeyPair):
    """The keys that the shared secret a_u makes; whoever rebuilds it makes them again."""

    __slots__ = ("_kem_key", "kem_seed", "shared")

    def __init__(self, shared: bytes, *, suite: Suite, context: bytes) -> None:
        self.shared = shared
        self.kem_seed, self._kem_key = b"", b""
        if not suite.is_hybrid:
            super().__init__(shared)
            return
        super().__init__(secret_scalar(shared, context=context, label=labels.MASK_SCALAR))
        self.kem_seed = kem_seed(shared, context=context, info=[labels.KEM_MASK])
        self._kem_key = kem_key(self.kem_seed)

    @property
    def advertised(self) -> bytes:
        """s_pk: the point, in the hybrid suite an encapsulation key behind it."""
        return self.public + self._kem_key


class ChannelKeys(KeyPair):
    """The keys under which others seal shares for this site; ``offers`` by dealer."""

    __slots__ = ("_context", "_me", "_root", "_seed", "offers")

    def __init__(
        self, seed: bytes, *, suite: Suite, context: bytes, me: str, dealers: Iterable[str]
    ) -> None:
        label = suite.label(labels.CHANNEL_SECRET)
        super().__init__(secret_scalar(seed, context=context, label=label))
        # Dropped where nothing more is to be derived from it.
        self._seed = seed if suite.is_hybrid else b""
        self._context, self._me = context, me
        self.offers: dict[str, bytes] = {}
        self._root = b""
        if suite.is_hybrid:
            others = (dealer for dealer in dealers if dealer != me)
            self.offers = {dealer: kem_key(self.kem_seed_for(dealer)) for dealer in others}
            self._root = offer_root(self.offers)

    @property
    def advertised(self) -> bytes:
        """c_pk: the point, in the hybrid suite the root over all offers behind it."""
        return self.public + self._root

    def path_to(self, dealer: str) -> bytes:
        """From that dealer's offer to the root."""
        return offer_paths(self.offers)[dealer]

    def kem_seed_for(self, dealer: str) -> bytes:
        """What opens the encapsulations of ``dealer``, and of nobody else."""
        info = [labels.KEM_CHANNEL, encode_text(self._me), encode_text(dealer)]
        return kem_seed(self._seed, context=self._context, info=info)

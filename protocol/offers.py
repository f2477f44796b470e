"""Encapsulation keys that a site offers, one to each dealer, under one hash that it signs.

They travel once: from the site to the server as an attachment, and from there each to the dealer
that it is for, with its path to the hash. So nobody carries n^2 keys, and to show what one dealer
encapsulated gives away nothing about the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protocol import labels
from protocol.encoding import Reader, encode, encode_text
from protocol.kem import KEM_KEY_SIZE, is_kem_key
from protocol.merkle import leads_to, paths_of, root_of

__all__ = ["is_offered", "offer_attachment", "offer_paths", "offer_root", "read_offers"]


def offer_root(offers: Mapping[str, bytes]) -> bytes:
    """The hash over ``offers`` (dealer -> encapsulation key), of which there is at least one."""
    return root_of([_item(*each) for each in offers.items()])


def offer_paths(offers: Mapping[str, bytes]) -> dict[str, bytes]:
    """Dealer -> path from its encapsulation key to the hash."""
    paths = paths_of([_item(*each) for each in offers.items()])
    return dict(zip(offers, paths, strict=True))


def is_offered(key: bytes, *, dealer: str, root: bytes, path: bytes) -> bool:
    """Whether ``key`` is an encapsulation key, and the one for ``dealer`` under ``root``."""
    return is_kem_key(key) and leads_to(root, item=_item(dealer, key), path=path)


def offer_attachment(offers: Mapping[str, bytes]) -> bytes:
    """All of them for the server, in the order of the cohort."""
    return encode(offers.values())


def read_offers(
    attachment: bytes | memoryview, *, peer: str, dealers: Iterable[str]
) -> dict[str, bytes]:
    """Dealer -> key as ``peer`` attached them; whether they are keys is not looked at.

    Raises:     RemoteProtocolError(peer, MALFORMED) for another number of them.
    """
    others = [dealer for dealer in dealers if dealer != peer]
    reader = Reader(attachment, peer=peer)
    found = [reader.exact("offered key", size=KEM_KEY_SIZE) for _ in others]
    reader.finish()
    return dict(zip(others, found, strict=True))


def _item(dealer: str, key: bytes) -> bytes:
    return encode([labels.KEM_OFFER, encode_text(dealer), key])

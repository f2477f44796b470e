"""The Merkle tree of Certificate Transparency: hashes, inclusion and consistency proofs.

    MTH({})   = SHA-256()                              leaf: SHA-256(0x00 || entry)
    MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two below n

The different first byte keeps an inner node from passing for a leaf. Source: RFC 9162, section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

__all__ = [
    "HASH_SIZE",
    "MerkleTree",
    "leaf_hash",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """A tree that grows by one leaf at a time and keeps the root of every perfect subtree.

    Adding a leaf takes one hash on average; roots and proofs take O(log^2 n) at most.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]  # number h: roots over 2^h leaves, from the left
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        root = leaf
        for level in self._levels:
            level.append(root)
            if len(level) % 2 == 1:
                return
            root = _node(level[-2], level[-1])
        self._levels.append([root])

    def root_with(self, leaf: bytes) -> bytes:
        """The root that ``append`` of this leaf would lead to."""
        root = leaf
        for level in self._levels:
            if len(level) % 2 == 1:
                root = _node(level[-1], root)
        return root

    def root(self, size: int | None = None) -> bytes:
        """MTH of the first ``size`` leaves, by default of all.

        Raises:     ValueError for more leaves than there are; so do the proofs.
        """
        size = self._checked(size)
        return self._range(0, size) if size else hashlib.sha256().digest()

    def inclusion_proof(self, index: int, *, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]): the siblings from leaf to root (RFC 9162, 2.1.3.1)."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise ValueError(f"expected 0 <= index < {size}, got {index}")
        start, stop, siblings = 0, size, []
        while stop - start > 1:
            start, stop, sibling = self._descend(start, stop, index)
            siblings.append(sibling)
        return siblings[::-1]

    def consistency_proof(self, old_size: int, *, size: int | None = None) -> list[bytes]:
        """PROOF(old_size, D[size]): the first leaves are unchanged (RFC 9162, 2.1.4.1)."""
        size = self._checked(size)
        if not 1 <= old_size <= size:
            raise ValueError(f"expected 1 <= old_size <= {size}, got {old_size}")
        start, stop, siblings = 0, size, []
        while stop > old_size:
            start, stop, sibling = self._descend(start, stop, old_size - 1)
            siblings.append(sibling)
        # A verifier knows the old root; of another subtree that ends there it must be told.
        return ([self._range(start, stop)] if start else []) + siblings[::-1]

    def _descend(self, start: int, stop: int, index: int) -> tuple[int, int, bytes]:
        """The half of D[start:stop] that holds leaf ``index``, and the root of the other half."""
        middle = start + _split(stop - start)
        if index < middle:
            return start, middle, self._range(middle, stop)
        return middle, stop, self._range(start, middle)

    def _range(self, start: int, stop: int) -> bytes:
        """MTH(D[start:stop]) for a range that the definition's splits lead to."""
        size = stop - start
        height = size.bit_length() - 1
        if size == 1 << height:
            return self._levels[height][start >> height]
        middle = start + _split(size)
        return _node(self._range(start, middle), self._range(middle, stop))

    def _checked(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"expected 0 <= size <= {self.size}, got {size}")
        return size


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether ``leaf`` is number ``index`` of the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = _node(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = _node(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of ``size`` leaves begins with the older one (RFC 9162, 2.1.4.2)."""
    if not 1 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # a perfect tree is its own first sibling
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = _node(sibling, old), _node(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = _node(new, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old == old_root and new == root


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1

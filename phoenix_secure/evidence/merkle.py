"""The Merkle tree of Certificate Transparency: hashes, inclusion and consistency proofs.

    MTH({})   = SHA-256()                              leaf: SHA-256(0x00 || entry)
    MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two below n

The different first byte keeps an inner node from passing for a leaf. Source: RFC 9162, section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = [
    "HASH_SIZE",
    "GrowingRoot",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "tree_root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class GrowingRoot:
    """The root of a tree that grows by one leaf at a time, in O(log n) memory."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[
            tuple[int, bytes]
        ] = []  # (leaves, root) of perfect subtrees, largest first

    def append(self, leaf: bytes) -> None:
        """Add a leaf's hash."""
        size, root = 1, leaf
        while self._peaks and self._peaks[-1][0] == size:
            size, root = 2 * size, _node(self._peaks.pop()[1], root)
        self._peaks.append((size, root))
        self.size += 1

    def copy(self) -> GrowingRoot:
        """A tree that grows on its own from here."""
        tree = GrowingRoot()
        tree.size, tree._peaks = self.size, list(self._peaks)
        return tree

    @property
    def root(self) -> bytes:
        """MTH of everything so far."""
        if not self._peaks:
            return hashlib.sha256().digest()
        root = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            root = _node(left, root)
        return root


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """MTH over leaf hashes."""
    tree = GrowingRoot()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, D): the siblings from leaf to root (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"expected 0 <= index < {len(leaves)}, got {index}")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), tree_root(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), tree_root(leaves[:k])]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """PROOF(old_size, D): that the first ``old_size`` leaves are unchanged (RFC 9162, 2.1.4.1)."""
    if not 1 <= old_size <= len(leaves):
        raise ValueError(f"expected 1 <= old_size <= {len(leaves)}, got {old_size}")
    return _subproof(leaves, old_size, whole=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [tree_root(leaves)]
    k = _split(len(leaves))
    if old_size <= k:
        return [*_subproof(leaves[:k], old_size, whole=whole), tree_root(leaves[k:])]
    return [*_subproof(leaves[k:], old_size - k, whole=False), tree_root(leaves[:k])]


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

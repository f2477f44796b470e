"""A hash tree over a dealer's items: one signature for all, and a short path for each holder.

Leaves and inner nodes are hashed under labels of their own, and an item names its holder, so that
a path needs no index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocol import labels
from protocol.encoding import encode

__all__ = ["HASH_SIZE", "MAX_PATH_SIZE", "leads_to", "paths_of", "root_of"]

HASH_SIZE = 32
_STEP_SIZE = 1 + HASH_SIZE
# More than 2^32 items never occur.
MAX_PATH_SIZE = 32 * _STEP_SIZE


def root_of(items: Sequence[bytes]) -> bytes:
    """The hash that stands for all ``items``, of which there is at least one."""
    return _levels(items)[-1][0]


def paths_of(items: Sequence[bytes]) -> list[bytes]:
    """What leads from each item to the root: for each level a side and a sibling's hash."""
    levels = _levels(items)[:-1]
    return [_path(levels, place) for place in range(len(items))]


def leads_to(root: bytes, *, item: bytes, path: bytes) -> bool:
    """Whether ``item`` is among those that ``root`` stands for."""
    if len(path) % _STEP_SIZE or len(path) > MAX_PATH_SIZE:
        return False
    node = _leaf(item)
    for start in range(0, len(path), _STEP_SIZE):
        sibling = path[start + 1 : start + _STEP_SIZE]
        if path[start] > 1:
            return False
        node = _node(sibling, node) if path[start] else _node(node, sibling)
    return node == root


def _levels(items: Sequence[bytes]) -> list[list[bytes]]:
    """All hashes from the leaves up; a node without a sibling moves up as it is."""
    levels = [[_leaf(item) for item in items]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append(
            [
                _node(*below[start : start + 2]) if start + 1 < len(below) else below[start]
                for start in range(0, len(below), 2)
            ]
        )
    return levels


def _path(levels: list[list[bytes]], place: int) -> bytes:
    path = b""
    for level in levels:
        sibling = place ^ 1
        if sibling < len(level):
            path += bytes([sibling < place]) + level[sibling]
        place //= 2
    return path


def _leaf(item: bytes) -> bytes:
    return hashlib.sha256(encode([labels.DEALT_ITEM, item])).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(encode([labels.DEALT_NODE, left, right])).digest()

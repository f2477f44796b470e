"""The tree against published roots and a slow reading of RFC 9162; proofs against forgeries."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_secure.evidence.merkle import (
    MerkleTree,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

# Entries and roots of the first eight trees in Certificate Transparency's reference tests.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
sizes = st.integers(1, 70)


def slow_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word for word."""
    n = len(entries)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = max(2**i for i in range(n) if 2**i < n)
    return hashlib.sha256(b"\x01" + slow_root(entries[:k]) + slow_root(entries[k:])).digest()


def slow_subproof(m: int, entries: list[bytes], b: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1, word for word."""
    n = len(entries)
    if m == n:
        return [] if b else [slow_root(entries)]
    k = max(2**i for i in range(n) if 2**i < n)
    if m <= k:
        return [*slow_subproof(m, entries[:k], b), slow_root(entries[k:])]
    return [*slow_subproof(m - k, entries[k:], False), slow_root(entries[:k])]


def slow_path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1, word for word."""
    n = len(entries)
    if n == 1:
        return []
    k = max(2**i for i in range(n) if 2**i < n)
    if m < k:
        return [*slow_path(m, entries[:k]), slow_root(entries[k:])]
    return [*slow_path(m - k, entries[k:]), slow_root(entries[:k])]


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(i).encode()) for i in range(size)]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_first_eight_trees_have_the_published_roots(size: int) -> None:
    assert MerkleTree(LEAVES[:size]).root().hex() == ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert MerkleTree([]).root() == hashlib.sha256().digest()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=70))
def test_every_root_of_a_growing_tree_is_the_root_of_the_rfc(entries: list[bytes]) -> None:
    tree = MerkleTree()
    for number, entry in enumerate(entries):
        assert tree.root() == slow_root(entries[:number])
        assert tree.root_with(leaf_hash(entry)) == slow_root(entries[: number + 1])
        tree.append(leaf_hash(entry))
        assert tree.size == number + 1
    for size in range(len(entries) + 1):
        assert tree.root(size) == slow_root(entries[:size])


@pytest.mark.parametrize("size", range(1, 71))
def test_every_proof_is_the_one_of_the_rfc(size: int) -> None:
    entries = [str(i).encode() for i in range(size)]
    tree = MerkleTree(map(leaf_hash, [*entries, b"later", b"and later"]))
    for old_size in range(1, size + 1):
        expected = slow_subproof(old_size, entries, True)
        assert tree.consistency_proof(old_size, size=size) == expected
    for index in range(size):
        assert tree.inclusion_proof(index, size=size) == slow_path(index, entries)


def test_published_inclusion_proofs() -> None:
    assert MerkleTree(LEAVES).inclusion_proof(0) == [
        leaf_hash(ENTRIES[1]),
        slow_root(ENTRIES[2:4]),
        slow_root(ENTRIES[4:]),
    ]
    assert MerkleTree(LEAVES[:3]).inclusion_proof(2) == [slow_root(ENTRIES[:2])]


@settings(deadline=None)
@given(st.data(), sizes)
def test_every_leaf_is_proven_and_nothing_else(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = MerkleTree(leaves).inclusion_proof(index), MerkleTree(leaves).root()
    assert verify_inclusion(leaves[index], index=index, size=size, proof=proof, root=root)
    other = data.draw(st.integers(0, size + 2).filter(lambda i: i != index))
    assert not verify_inclusion(leaves[index], index=other, size=size, proof=proof, root=root)
    assert not verify_inclusion(leaf_hash(b"x"), index=index, size=size, proof=proof, root=root)
    longer = [*proof, bytes(32)]
    assert not verify_inclusion(leaves[index], index=index, size=size, proof=longer, root=root)
    if proof:
        cut = proof[:-1]
        assert not verify_inclusion(leaves[index], index=index, size=size, proof=cut, root=root)


@settings(deadline=None)
@given(st.data(), sizes)
def test_growth_is_proven_and_a_rewritten_past_is_not(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    facts = {
        "old_size": old,
        "old_root": MerkleTree(leaves[:old]).root(),
        "size": size,
        "root": MerkleTree(leaves).root(),
        "proof": MerkleTree(leaves).consistency_proof(old),
    }
    assert verify_consistency(**facts)
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*leaves[:changed], leaf_hash(b"forged"), *leaves[changed + 1 :]]
    forged = {
        "root": MerkleTree(rewritten).root(),
        "proof": MerkleTree(rewritten).consistency_proof(old),
    }
    assert not verify_consistency(**{**facts, **forged})
    assert not verify_consistency(**{**facts, "proof": [*facts["proof"], bytes(32)]})
    if old < size:
        assert not verify_consistency(**{**facts, "old_size": old + 1})
        assert not verify_consistency(**{**facts, "proof": facts["proof"][:-1]})


def test_a_node_does_not_pass_for_a_leaf() -> None:
    left, right = LEAVES[0], LEAVES[1]
    assert leaf_hash(left + right) != MerkleTree([left, right]).root()


@pytest.mark.parametrize("index", [-1, 8])
def test_a_proof_beyond_the_tree_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= index < 8"):
        MerkleTree(LEAVES).inclusion_proof(index)
    assert not verify_inclusion(LEAVES[0], index=index, size=8, proof=[], root=bytes(32))

"""The tree against published roots and a slow reading of RFC 9162; proofs against forgeries."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.evidence.merkle import (
    GrowingRoot,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    tree_root,
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
sizes = st.integers(1, 40)


def slow_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, word for word."""
    n = len(entries)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = max(2**i for i in range(n) if 2**i < n)
    return hashlib.sha256(b"\x01" + slow_root(entries[:k]) + slow_root(entries[k:])).digest()


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(i).encode()) for i in range(size)]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_first_eight_trees_have_the_published_roots(size: int) -> None:
    assert tree_root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert tree_root([]) == hashlib.sha256().digest()


@given(st.lists(st.binary(max_size=5), max_size=40))
def test_a_growing_root_is_the_root_of_the_rfc(entries: list[bytes]) -> None:
    tree = GrowingRoot()
    for number, entry in enumerate(entries):
        before = tree.copy()
        tree.append(leaf_hash(entry))
        assert before.root == slow_root(entries[:number])
    assert tree.root == slow_root(entries)
    assert tree.size == len(entries)


def test_published_inclusion_proofs() -> None:
    assert inclusion_proof(LEAVES, 0) == [
        leaf_hash(ENTRIES[1]),
        slow_root(ENTRIES[2:4]),
        slow_root(ENTRIES[4:]),
    ]
    assert inclusion_proof(LEAVES[:3], 2) == [slow_root(ENTRIES[:2])]


@given(st.data(), sizes)
def test_every_leaf_is_proven_and_nothing_else(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(leaves, index), tree_root(leaves)
    assert verify_inclusion(leaves[index], index=index, size=size, proof=proof, root=root)
    other = data.draw(st.integers(0, size + 2).filter(lambda i: i != index))
    assert not verify_inclusion(leaves[index], index=other, size=size, proof=proof, root=root)
    assert not verify_inclusion(leaf_hash(b"x"), index=index, size=size, proof=proof, root=root)
    longer = [*proof, bytes(32)]
    assert not verify_inclusion(leaves[index], index=index, size=size, proof=longer, root=root)
    if proof:
        cut = proof[:-1]
        assert not verify_inclusion(leaves[index], index=index, size=size, proof=cut, root=root)


@given(st.data(), sizes)
def test_growth_is_proven_and_a_rewritten_past_is_not(data: st.DataObject, size: int) -> None:
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    facts = {
        "old_size": old,
        "old_root": tree_root(leaves[:old]),
        "size": size,
        "root": tree_root(leaves),
        "proof": consistency_proof(leaves, old),
    }
    assert verify_consistency(**facts)
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*leaves[:changed], leaf_hash(b"forged"), *leaves[changed + 1 :]]
    forged = {
        "root": tree_root(rewritten),
        "proof": consistency_proof(rewritten, old),
    }
    assert not verify_consistency(**{**facts, **forged})
    assert not verify_consistency(**{**facts, "proof": [*facts["proof"], bytes(32)]})
    if old < size:
        assert not verify_consistency(**{**facts, "old_size": old + 1})
        assert not verify_consistency(**{**facts, "proof": facts["proof"][:-1]})


def test_a_node_does_not_pass_for_a_leaf() -> None:
    left, right = LEAVES[0], LEAVES[1]
    assert leaf_hash(left + right) != tree_root([left, right])


@pytest.mark.parametrize("index", [-1, 8])
def test_a_proof_beyond_the_tree_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= index < 8"):
        inclusion_proof(LEAVES, index)
    assert not verify_inclusion(LEAVES[0], index=index, size=8, proof=[], root=bytes(32))

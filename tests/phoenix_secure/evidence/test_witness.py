"""A site keeps the heads that it saw; a rewritten history is refused, and proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.evidence import Event, Ledger, Scope, TreeHead, read_ledger
from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.evidence.merkle import MerkleTree
from phoenix_secure.evidence.witness import Forked, ShownHead, Witness, WitnessReply, read_kept
from protocol import Identity


def shown(ledger: Ledger, server: Identity, *, old_size: int, size: int | None = None) -> bytes:
    found = read_ledger(ledger.path)
    size = found.head.size if size is None else size
    head = found.head_at(size)
    proof = found.tree.consistency_proof(old_size, size=size) if old_size else []
    return ShownHead(
        head=head, signature=head.sign(server), old_size=old_size, proof=tuple(proof)
    ).to_bytes()


@pytest.fixture
def site() -> Identity:
    return Identity("a", seed=b"a" * 32)


def open_witness(path: Path, *, site: Identity, server: Identity, scope: Scope) -> Witness:
    return Witness(
        path,
        identity=site,
        server_key=server.public_key,
        federation=scope.federation,
        plan=scope.plan,
    )


@pytest.fixture
def witness(tmp_path: Path, site: Identity, server: Identity, scope: Scope) -> Witness:
    return open_witness(tmp_path / "heads.jsonl", site=site, server=server, scope=scope)


def test_a_site_signs_what_it_was_shown(
    witness: Witness, ledger: Ledger, server: Identity, site: Identity
) -> None:
    reply = WitnessReply.from_bytes(witness.handle(shown(ledger, server, old_size=0)))
    assert reply.signature is not None
    assert ledger.head.is_signed(reply.signature, by=site.public_key)
    assert witness.kept == ledger.head


def test_a_grown_ledger_is_followed(
    witness: Witness,
    ledger: Ledger,
    server: Identity,
    tmp_path: Path,
    site: Identity,
    scope: Scope,
) -> None:
    path = tmp_path / "heads.jsonl"
    witness.handle(shown(ledger, server, old_size=0, size=3))
    witness.handle(shown(ledger, server, old_size=3))
    assert open_witness(path, site=site, server=server, scope=scope).kept == ledger.head
    heads = read_kept(path, server_key=server.public_key, site_key=site.public_key)
    assert [head.size for head in heads] == [3, 6]


def test_a_repeated_request_gets_the_same_signature(
    witness: Witness, ledger: Ledger, server: Identity, tmp_path: Path
) -> None:
    request = shown(ledger, server, old_size=0)
    assert witness.handle(request) == witness.handle(request)
    assert len((tmp_path / "heads.jsonl").read_text().splitlines()) == 1


def test_a_proof_from_elsewhere_is_answered_with_the_size_that_is_kept(
    witness: Witness, ledger: Ledger, server: Identity
) -> None:
    reply = WitnessReply.from_bytes(witness.handle(shown(ledger, server, old_size=2)))
    assert (reply.signature, reply.kept_size) == (None, 0)
    witness.handle(shown(ledger, server, old_size=0, size=4))
    reply = WitnessReply.from_bytes(witness.handle(shown(ledger, server, old_size=2)))
    assert (reply.signature, reply.kept_size) == (None, 4)


@given(changed=st.integers(0, 3), later=st.integers(4, 8))
def test_a_rewritten_past_is_refused_whatever_follows(
    tmp_path_factory: pytest.TempPathFactory, changed: int, later: int
) -> None:
    server, site = Identity("server", seed=b"s" * 32), Identity("a", seed=b"a" * 32)
    path = tmp_path_factory.mktemp("fork") / "heads.jsonl"
    scope = Scope.new(federation="f", plan="ab" * 32)
    witness = open_witness(path, site=site, server=server, scope=scope)
    leaves = [bytes([i]) * 32 for i in range(8)]

    def show(leaves: list[bytes], old_size: int) -> bytes:
        root = MerkleTree(leaves).root().hex()
        head = TreeHead(ledger=scope.ledger, size=len(leaves), root=root, scope=scope)
        proof = tuple(MerkleTree(leaves).consistency_proof(old_size)) if old_size else ()
        signature = head.sign(server)
        return ShownHead(head=head, signature=signature, old_size=old_size, proof=proof).to_bytes()

    witness.handle(show(leaves[:4], 0))
    forged = [*leaves[:changed], b"f" * 32, *leaves[changed + 1 : later]]
    with pytest.raises(Forked):
        witness.handle(show(forged, 4))
    assert witness.kept is not None
    assert witness.kept.root == MerkleTree(leaves[:4]).root().hex()
    witness.handle(show(leaves[:later], 4))


def test_a_shorter_or_another_ledger_is_a_fork(
    witness: Witness, ledger: Ledger, server: Identity, tmp_path: Path, scope: Scope
) -> None:
    witness.handle(shown(ledger, server, old_size=0))
    with pytest.raises(Forked, match="signed 6 others before"):
        witness.handle(shown(ledger, server, old_size=2, size=4))
    new = Scope.new(federation=scope.federation, plan=scope.plan)
    other = Ledger.create(tmp_path / "other.jsonl", identity=server, scope=new)
    other.append(Event.CONFIG)
    with pytest.raises(Forked, match="shows the ledger"):
        witness.handle(shown(other, server, old_size=0))


def test_a_head_of_another_key_is_refused(witness: Witness, ledger: Ledger, site: Identity) -> None:
    with pytest.raises(Forked, match="pinned server key"):
        witness.handle(shown(ledger, site, old_size=0))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"head":1}', b"x" * (1 << 21)])
def test_malformed_messages_are_refused(witness: Witness, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|too long|canonical"):
        witness.handle(data)
    with pytest.raises(ValueError, match=r"expected|too long|canonical"):
        WitnessReply.from_bytes(data)


def test_a_head_cut_short_by_a_crash_is_asked_for_again(
    witness: Witness,
    ledger: Ledger,
    server: Identity,
    site: Identity,
    tmp_path: Path,
    scope: Scope,
) -> None:
    path = tmp_path / "heads.jsonl"
    witness.handle(shown(ledger, server, old_size=0, size=3))
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    again = open_witness(path, site=site, server=server, scope=scope)
    again.handle(shown(ledger, server, old_size=3))
    heads = read_kept(path, server_key=server.public_key, site_key=site.public_key)
    assert [head.size for head in heads] == [3, 6]


def test_a_forged_memory_is_noticed(
    witness: Witness,
    ledger: Ledger,
    server: Identity,
    site: Identity,
    tmp_path: Path,
    scope: Scope,
) -> None:
    witness.handle(shown(ledger, server, old_size=0))
    path = tmp_path / "heads.jsonl"
    line = path.read_text()
    path.write_text(line.replace('"size":6', '"size":7'))
    with pytest.raises(Forked, match="line 1"):
        open_witness(path, site=site, server=server, scope=scope)
    # The server alone can sign a head and say that a site kept it.
    values = json.loads(line)
    path.write_bytes(canonical(values | {"site": values["signature"]}) + b"\n")
    with pytest.raises(Forked, match="the site that kept it"):
        read_kept(path, server_key=server.public_key, site_key=site.public_key)
    values.pop("site")
    path.write_bytes(canonical(values) + b"\n")
    with pytest.raises(Forked, match="line 1"):
        read_kept(path, server_key=server.public_key, site_key=site.public_key)


OLD = TreeHead(ledger="5" * 32, size=2, root="ab" * 32)


def test_a_run_of_version_0_1_0_goes_on_and_none_begins_so(
    site: Identity, server: Identity, scope: Scope, tmp_path: Path
) -> None:
    """What such a witness wrote is its heads' last line; a new site signs no head without plan."""
    path = tmp_path / "heads.jsonl"
    request = ShownHead(head=OLD, signature=OLD.sign(server), old_size=0, proof=())
    witness = open_witness(path, site=site, server=server, scope=scope)
    with pytest.raises(Forked, match="names no plan"):
        witness.handle(request.to_bytes())
    line = {"head": OLD.to_dict(), "signature": OLD.sign(server).hex()}
    path.write_bytes(canonical(line) + b"\n")
    witness = open_witness(path, site=site, server=server, scope=scope)
    reply = WitnessReply.from_bytes(witness.handle(request.to_bytes()))
    assert reply.signature is not None
    assert OLD.is_signed(reply.signature, by=site.public_key)


def test_a_head_is_read_back_and_means_one_run_alone(server: Identity, scope: Scope) -> None:
    head = TreeHead(ledger=scope.ledger, size=2, root="ab" * 32, scope=scope, round=1)
    assert TreeHead.from_dict(head.to_dict()) == head
    assert TreeHead.from_dict(OLD.to_dict()) == OLD
    signature = head.sign(server)
    for change in ({"plan": "cd" * 32}, {"federation": "g"}, {"nonce": "00" * 16}, {"round": 2}):
        other = TreeHead.from_dict(head.to_dict() | change)
        assert not other.is_signed(signature, by=server.public_key)
    with pytest.raises(ValueError, match="follow from"):
        TreeHead(ledger=OLD.ledger, size=2, root="ab" * 32, scope=scope)
    for change in ({"version": 3}, {"plan": "AB" * 32}, {"federation": "a b"}, {"round": -1}):
        with pytest.raises(ValueError, match="expected"):
            TreeHead.from_dict(head.to_dict() | change)

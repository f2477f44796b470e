"""Witnessing costs what is new since the last time, however long the history is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from phoenix_secure.evidence import EvidenceError, Ledger, Scope, read_ledger
from phoenix_secure.evidence.merkle import MerkleTree
from phoenix_secure.evidence.witness import ShownHead, Witness
from phoenix_secure.federation.engines.exchange import OnReply, Reply
from phoenix_secure.federation.run.evidence import RunEvidence
from phoenix_secure.federation.server.recorded_round import Witnesses
from protocol import SERVER, Identity, Roster

SCOPE = Scope.new(federation="f", plan="ab" * 32)
NAMES = tuple(f"site-{number}" for number in range(1, 6))


class Sites:
    """An engine over real witnesses; remembers what each was shown last."""

    def __init__(self, path: Path) -> None:
        self.server = Identity(SERVER, seed=b"s" * 32)
        self.identities = {name: Identity(name, seed=name.encode().ljust(32)) for name in NAMES}
        self.path = path
        self.sites = NAMES
        self.away: set[str] = set()
        self.shown: dict[str, ShownHead] = {}
        self.restart()

    def restart(self) -> None:
        self.witnesses = {
            name: Witness(
                self.path / f"{name}.jsonl",
                identity=identity,
                server_key=self.server.public_key,
                federation=SCOPE.federation,
                plan=SCOPE.plan,
            )
            for name, identity in self.identities.items()
        }

    @property
    def roster(self) -> Roster:
        return Roster.create(
            federation_id="f",
            owner_key=Identity("owner", seed=b"o" * 32).public_key,
            server_key=self.server.public_key,
            keys={name: each.public_key for name, each in self.identities.items()},
        )

    def exchange(
        self,
        stage: str,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        quorum: int | None = None,
        grace_s: float = 0.0,
        on_reply: OnReply | None = None,
    ) -> dict[str, Reply]:
        asked = {site: body for site, body in requests.items() if site not in self.away}
        self.shown |= {site: ShownHead.from_bytes(body) for site, body in asked.items()}
        return {site: Reply(body=self.witnesses[site].handle(body)) for site, body in asked.items()}

    def close(self) -> None:
        """Nothing runs."""


class Run:
    """A server that writes an entry a round and has it witnessed."""

    def __init__(self, path: Path) -> None:
        self.sites = Sites(path)
        self.ledger = Ledger.create(path / "ledger.jsonl", identity=self.sites.server, scope=SCOPE)
        self.evidence = RunEvidence(self.ledger)
        self.restart()

    def restart(self) -> None:
        self.witnesses = Witnesses(
            self.evidence, identity=self.sites.server, roster=self.sites.roster
        )

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.evidence.round_started(1, cohort=NAMES)
            assert set(self.witnesses.ask(self.sites)) == set(NAMES) - self.sites.away


class Counter:
    """How often a function was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.calls = 0
        called = getattr(owner, name)

        def counted(*args: object, **kwargs: object) -> object:
            self.calls += 1
            return called(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    def take(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_hashing_grows_with_the_rounds_and_not_with_their_square(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = Counter(monkeypatch, hashlib, "sha256")

    def witnessed_at(size: int) -> int:
        while run.ledger.head.size < size:
            run.evidence.round_started(1, cohort=NAMES)
        run.rounds(1)
        hashes.take()
        run.rounds(12)
        return hashes.take()

    # Four times the history adds two levels to the tree; hashing it all takes four times more.
    short = witnessed_at(100)
    assert witnessed_at(400) < 1.6 * short


def test_what_was_read_or_written_before_is_not_read_again(run: Run) -> None:
    run.rounds(3)
    path, size = run.ledger.path, run.ledger.path.stat().st_size
    with path.open("r+b") as file:
        file.write(b" " * size)
    kept = [run.sites.path / f"{name}.jsonl" for name in NAMES]
    for each in kept:
        with each.open("r+b") as file:
            file.write(b" " * each.stat().st_size)
    run.rounds(3)
    with path.open("rb") as file:
        assert file.read(size) == b" " * size
        assert file.read().count(b"\n") == 6
    with pytest.raises(EvidenceError, match="line 1"):
        read_ledger(path)


def test_sites_with_one_old_size_share_one_proof(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = Counter(monkeypatch, MerkleTree, "consistency_proof")
    run.rounds(1)
    assert proofs.take() == 0
    run.rounds(1)
    assert proofs.take() == 1
    run.sites.away = {"site-3"}
    run.rounds(1)
    run.sites.away = set()
    proofs.take()
    run.rounds(1)
    assert proofs.take() == 2
    assert run.sites.shown["site-3"].old_size < run.sites.shown["site-1"].old_size


def test_a_server_that_forgot_what_sites_keep_learns_it_from_them(run: Run) -> None:
    run.rounds(3)
    run.restart()
    run.sites.restart()
    run.rounds(1)
    found = read_ledger(run.ledger.path)
    assert found.entries[-1].facts["missing"] == {}
    assert len(found.entries[-1].facts["signatures"]) == 5

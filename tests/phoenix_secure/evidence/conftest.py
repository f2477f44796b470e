"""A server's key and a ledger with a few entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.evidence import Event, Ledger, Scope
from protocol import SERVER, Identity

SCOPE = Scope(federation="f", plan="ab" * 32, nonce="cd" * 16)


@pytest.fixture
def server() -> Identity:
    return Identity(SERVER, seed=bytes(range(32)))


@pytest.fixture
def scope() -> Scope:
    return SCOPE


@pytest.fixture
def ledger(tmp_path: Path, server: Identity) -> Ledger:
    """Six entries: the opening, settings, two rounds."""
    ledger = Ledger.create(tmp_path / "evidence" / "ledger.jsonl", identity=server, scope=SCOPE)
    ledger.append(Event.CONFIG, sha256="ab" * 32)
    for number in (1, 2):
        ledger.append(Event.ROUND_STARTED, round=number, cohort=["a", "b"])
        ledger.append(Event.CHECKPOINT, round=number, loss=0.25)
    return ledger

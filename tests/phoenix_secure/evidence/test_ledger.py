"""The ledger: what it keeps, what it repairs, and everything that it refuses."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rfc8785

from phoenix_secure.errors import StorageError
from phoenix_secure.evidence import Event, EvidenceError, Ledger, Scope, read_ledger
from phoenix_secure.evidence.merkle import MerkleTree
from protocol import SERVER, Identity


def test_entries_are_read_back_in_order(ledger: Ledger, server: Identity) -> None:
    found = read_ledger(ledger.path, server_key=server.public_key)
    events = [entry.event for entry in found.entries]
    assert events == ["opened", "config", *["round-started", "checkpoint"] * 2]
    assert found.head == ledger.head
    assert found.head.root == MerkleTree(entry.leaf for entry in found.entries).root().hex()
    assert found.entries[3].facts == {"round": 1, "loss": 0.25}
    assert found.torn_bytes == 0


def test_a_second_writer_goes_on_where_the_first_stopped(ledger: Ledger, server: Identity) -> None:
    again = Ledger(ledger.path, identity=server)
    assert (again.id, again.head) == (ledger.id, ledger.head)
    again.append(Event.RESUMED, round=2)
    assert read_ledger(ledger.path).entries[-1].event == "resumed"


def test_a_torn_last_line_is_dropped_by_the_next_writer(ledger: Ledger, server: Identity) -> None:
    whole = ledger.path.read_bytes()
    for length in (1, 50, 200):
        ledger.path.write_bytes(whole + whole[:length])
        assert read_ledger(ledger.path).torn_bytes == length
        Ledger(ledger.path, identity=server).append(Event.RESUMED, round=2)
        found = read_ledger(ledger.path, server_key=server.public_key)
        assert (len(found.entries), found.torn_bytes) == (7, 0)


def test_any_changed_byte_of_any_line_is_named(ledger: Ledger, server: Identity) -> None:
    content = ledger.path.read_bytes()
    chooser = random.Random(7)  # noqa: S311
    for place in chooser.sample(range(len(content)), 250):
        changed = bytearray(content)
        changed[place] ^= 1 << chooser.randrange(8)
        ledger.path.write_bytes(changed)
        number = content[:place].count(b"\n") + 1
        if place == len(content) - 1:
            continue  # the last line then counts as torn: see `verify`
        with pytest.raises(EvidenceError, match=f"line {number}|line {number + 1}"):
            read_ledger(ledger.path, server_key=server.public_key)


def test_dropped_repeated_and_reordered_lines_are_named(ledger: Ledger) -> None:
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:2], *lines[3:]],
        [*lines[:3], lines[2], *lines[3:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        lines[1:],
    ):
        ledger.path.write_bytes(b"".join(changed))
        with pytest.raises(EvidenceError, match=r"dropped or reordered|does not open"):
            read_ledger(ledger.path)


def test_a_line_of_another_ledger_is_named(
    ledger: Ledger, tmp_path: Path, server: Identity, scope: Scope
) -> None:
    new = Scope.new(federation=scope.federation, plan=scope.plan)
    other = Ledger.create(tmp_path / "other.jsonl", identity=server, scope=new)
    other.append(Event.CONFIG, sha256="cd" * 32)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    lines[1] = other.path.read_bytes().splitlines(keepends=True)[1]
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(EvidenceError, match="line 2: the entry belongs to another ledger"):
        read_ledger(ledger.path)


def test_a_ledger_of_another_server_is_refused(ledger: Ledger) -> None:
    other = Identity.generate(SERVER)
    with pytest.raises(EvidenceError, match="names another server key"):
        read_ledger(ledger.path, server_key=other.public_key)
    with pytest.raises(EvidenceError, match="names another server key"):
        Ledger(ledger.path, identity=other)


def test_evidence_is_never_overwritten(ledger: Ledger, server: Identity, scope: Scope) -> None:
    with pytest.raises(EvidenceError, match="never overwritten"):
        Ledger.create(ledger.path, identity=server, scope=scope)


def test_a_ledger_killed_in_its_first_line_is_begun_again(
    ledger: Ledger, server: Identity, scope: Scope
) -> None:
    ledger.path.write_bytes(ledger.path.read_bytes()[:80])
    with pytest.raises(EvidenceError, match="no entry"):
        Ledger(ledger.path, identity=server)
    again = Ledger.create(ledger.path, identity=server, scope=scope)
    assert read_ledger(ledger.path).head == again.head


def test_heads_name_the_run_and_the_last_round_that_was_begun(ledger: Ledger, scope: Scope) -> None:
    found = read_ledger(ledger.path)
    heads = [found.head_at(size) for size in range(1, 7)]
    assert [head.round for head in heads] == [0, 0, 1, 1, 2, 2]
    assert {head.scope for head in heads} == {scope}
    assert {head.ledger for head in heads} == {scope.ledger} == {ledger.id}


def test_two_writers_do_not_fork_a_ledger(ledger: Ledger, server: Identity) -> None:
    other = Ledger(ledger.path, identity=server)
    other.append(Event.RESUMED, round=2)
    with pytest.raises(EvidenceError, match="another process"):
        ledger.append(Event.RESUMED, round=2)


def test_a_shortened_file_is_noticed_by_the_writer(ledger: Ledger) -> None:
    os.truncate(ledger.path, 100)
    with pytest.raises(EvidenceError, match="became shorter"):
        ledger.append(Event.RESUMED, round=2)


def test_facts_that_json_cannot_hold_leave_the_ledger_as_it_was(ledger: Ledger) -> None:
    before, head = ledger.path.read_bytes(), ledger.head
    for value in (float("nan"), 2**70, object()):
        with pytest.raises(rfc8785.CanonicalizationError):
            ledger.append(Event.CHECKPOINT, value=value)
    assert (ledger.path.read_bytes(), ledger.head) == (before, head)
    ledger.append(Event.CHECKPOINT, round=3)
    read_ledger(ledger.path)


def test_a_missing_or_empty_ledger_says_so(tmp_path: Path, server: Identity, scope: Scope) -> None:
    with pytest.raises(EvidenceError, match="cannot read"):
        read_ledger(tmp_path / "no.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(EvidenceError, match="no entry"):
        read_ledger(tmp_path / "empty.jsonl")
    with pytest.raises(StorageError):
        Ledger.create(Path("/proc/nowhere/ledger.jsonl"), identity=server, scope=scope)


WRITER = """
import sys
from pathlib import Path
from phoenix_secure.evidence import Event, Ledger
from protocol import SERVER, Identity
ledger = Ledger(Path(sys.argv[1]), identity=Identity(SERVER, seed=bytes(range(32))))
effects = open(sys.argv[2], "ab", buffering=0)
print("ready", flush=True)
while True:
    entry = ledger.append(Event.CHECKPOINT, round=1, padding="x" * 3000)
    effects.write(b"%d\\n" % entry.index)
"""


@pytest.mark.long
def test_killed_at_any_moment_no_effect_is_without_its_entry(
    tmp_path: Path, server: Identity, scope: Scope
) -> None:
    path, effects = tmp_path / "ledger.jsonl", tmp_path / "effects"
    Ledger.create(path, identity=server, scope=scope)
    chooser = random.Random(3)  # noqa: S311
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(effects)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chooser.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        entries = {entry.index for entry in read_ledger(path, server_key=server.public_key).entries}
        happened = {int(line) for line in effects.read_text().split()}
        assert happened <= entries
    checkpoints = {entry.index for entry in read_ledger(path).of(Event.CHECKPOINT)}
    # At most the entry in flight of each kill has no effect.
    assert len(checkpoints - happened) <= 8
    assert len(checkpoints) > 8


def test_no_secret_is_in_the_file(ledger: Ledger, server: Identity) -> None:
    text = ledger.path.read_text()
    assert server.export_seed().hex() not in text
    assert json.loads(text.splitlines()[0])["entry"]["facts"]["server_key"]

"""A journal: records come back, only new lines are read, files written before stay as they were."""

from __future__ import annotations

import datetime as dt
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import CheckpointError
from phoenix_secure.evidence import Event, Ledger, read_ledger
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.journal import Journal, create_file, kind_codec
from phoenix_secure.privacy.events import PoissonSampledGaussian, SkellamSum
from phoenix_secure.privacy.ledger import PrivacyLedger, Release
from protocol import SERVER, Identity, SentInput

# Written by the version before `Journal`, by the functions below.
WRITTEN_BEFORE = Path(__file__).parent / "written_before"
SITES = ("site-01", "site-02")
TRANSCRIPT = bytes(range(32))
SENT = SentInput(context=b"c" * 32, cohort=SITES, quorum=2, num_colluders=1)
STEP = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=5)
SUM = SkellamSum(num_words=10, l2_sensitivity=4.0, variance=100.0, releases=1)
RELEASES = (
    Release(id="a", plan="p", round_number=1, data="d", event=STEP),
    Release(id="b", plan="é", round_number=2, data="d", event=SUM),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    count: int
    word: str
    data: bytes
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    count: int


CODEC = kind_codec({"spoken": Spoken, "silence": Silence})
records = st.one_of(
    st.builds(
        Spoken,
        count=st.integers(-(2**70), 2**70),
        word=st.text(st.characters(exclude_categories=("Cs",))),
        data=st.binary(max_size=40),
        names=st.lists(st.text(st.characters(exclude_categories=("Cs",)))).map(tuple),
    ),
    st.builds(Silence, count=st.integers()),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "journal.jsonl"
    create_file(path)
    return path


@given(records)
def test_a_record_is_one_line_and_comes_back(record: Spoken | Silence) -> None:
    encode, decode = CODEC
    assert b"\n" not in encode(record)
    assert decode(encode(record)) == record


def append(journal: Journal[Silence], *counts: int) -> None:
    for count in counts:
        with journal.caught_up():
            journal.append(Silence(count=count))


def test_each_record_is_read_once_and_followed_once(path: Path) -> None:
    followed: list[Silence] = []
    writer: Journal[Silence] = Journal(path, CODEC, follow=followed.append)
    reader: Journal[Silence] = Journal(path, CODEC)
    append(writer, 1, 2)
    assert [each.count for each in reader.read_new()] == [1, 2]
    assert reader.read_new() == []
    append(writer, 3)
    assert [each.count for each in reader.read_new()] == [3]
    append(reader, 4)
    assert writer.read_new() == [Silence(count=4)]
    assert [each.count for each in followed] == [1, 2, 3, 4]
    assert writer.num_records == reader.num_records == 4


def test_a_line_that_was_read_is_never_looked_at_again(path: Path) -> None:
    journal: Journal[Silence] = Journal(path, CODEC)
    append(journal, 1, 2)
    path.write_bytes(b"x" * path.stat().st_size)
    append(journal, 3)
    assert journal.num_records == 3
    with pytest.raises(CheckpointError, match=r"journal\.jsonl is damaged in line 1"):
        Journal(path, CODEC).read_new()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b'{"count":1}',
        b'{"count":1,"kind":"unknown"}',
        b'{"count":1,"kind":[]}',
        b'{"count":null,"kind":"silence"}',
        b'{"count":1e999,"kind":"silence"}',
        b'{"count":1,"data":"0g","kind":"spoken","names":[],"word":""}',
        b'{"count":1,"data":"00","kind":"spoken","names":7,"word":""}',
    ],
)
def test_a_damaged_line_is_named_at_every_call_and_nothing_after_it_counts(
    path: Path, line: bytes
) -> None:
    followed: list[Silence] = []
    append(Journal(path, CODEC), 1)
    with path.open("ab") as file:
        file.write(line + b'\n{"count":3,"kind":"silence"}\n')
    journal: Journal[Silence] = Journal(path, CODEC, follow=followed.append)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"journal\.jsonl is damaged in line 2: restore"):
            append(journal, 4)
    assert followed == [Silence(count=1)]


def test_a_repaired_file_goes_on_where_it_was_damaged(path: Path) -> None:
    journal: Journal[Silence] = Journal(path, CODEC)
    append(journal, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"?\n")
    with pytest.raises(CheckpointError, match="line 2"):
        journal.read_new()
    path.write_bytes(whole + whole)
    assert len(journal.read_new()) == 1


def test_a_line_cut_short_is_left_out_and_dropped_by_the_next_append(path: Path) -> None:
    append(Journal(path, CODEC), 1)
    whole = path.read_bytes()
    for length in range(1, len(whole) - 1):
        path.write_bytes(whole + whole[:length])
        journal: Journal[Silence] = Journal(path, CODEC)
        assert len(journal.read_new()) == 1
        assert journal.torn_bytes == length
        append(journal, 1)
        assert path.read_bytes() == whole * 2


def test_an_append_that_did_not_read_what_others_wrote_is_refused(path: Path) -> None:
    journal: Journal[Silence] = Journal(path, CODEC)
    append(Journal(path, CODEC), 1)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="another process"), journal.locked():
        journal.append(Silence(count=2))
    assert path.read_bytes() == before


def test_a_record_that_does_not_follow_is_refused(path: Path) -> None:
    def rising(record: Silence) -> None:
        if record.count != journal.num_records + 1:
            raise ValueError("not the next one")

    append(Journal(path, CODEC), 1, 2, 4)
    journal: Journal[Silence] = Journal(path, CODEC, check=rising)
    with pytest.raises(CheckpointError, match="line 3"):
        journal.read_new()


class Noon(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Noon:
        return cls(2026, 11, 29, 8, 30, 0, 123000, tzinfo=tz)


def server_rounds(path: Path) -> None:
    journal = SecureJournal.create(path)
    journal.reserve(1)
    journal.record_survivors(1, survivors=SITES)
    journal.record_result(1, transcript=TRANSCRIPT)
    journal.reserve(2)
    journal.record_given_up(2)


def site_rounds(path: Path) -> None:
    record = SiteRecord.create(path)
    record.send(1, sent=SENT)
    record.sign(1, training_round=1, model_hash=b"m" * 32, survivors=SITES)
    record.record_result(1, transcript=TRANSCRIPT)


def privacy(path: Path) -> None:
    ledger = PrivacyLedger.open(path)
    for release in RELEASES:
        ledger.charge(release, max_releases=2, total=None)


def audit(path: Path) -> None:
    log = AuditLog(path)
    log.record("started", site="site-01")
    log.record("answered", stage="share", bytes_in=3, why="é")


def ledger(path: Path) -> None:
    times = iter(f"2026-11-29T08:30:0{i}.000+00:00" for i in range(3))
    identity = Identity(SERVER, seed=bytes(range(32)))
    # The first line names the run since; a ledger that was begun before goes on as it was.
    create_file(path, mode=0o666)
    path.write_bytes((WRITTEN_BEFORE / path.name).read_bytes().splitlines(keepends=True)[0])
    next(times)
    found = Ledger(path, identity=identity, clock=lambda: next(times))
    found.append(Event.ROUND_STARTED, round=1, cohort=list(SITES))
    found.append(Event.CHECKPOINT, round=1, loss=0.25, seconds=1.0, kind="é")


@pytest.mark.parametrize("write", [server_rounds, site_rounds, privacy, audit, ledger])
def test_what_is_written_is_byte_for_byte_what_was_written_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(dt, "datetime", Noon)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "5" * 2 * size)
    path = tmp_path / f"{write.__name__}.jsonl"
    write(path)
    before = WRITTEN_BEFORE / path.name
    assert path.read_bytes() == before.read_bytes()
    public = write is ledger  # evidence is for everybody's eyes
    assert bool(path.stat().st_mode & 0o077) == public


def test_what_was_written_before_is_read(tmp_path: Path) -> None:
    for each in WRITTEN_BEFORE.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    journal = SecureJournal(tmp_path / "server_rounds.jsonl")
    assert (journal.survivors(1), journal.given_up) == (SITES, (2,))
    assert (journal.previous, journal.reserve(3)) == (TRANSCRIPT, 3)
    record = SiteRecord(tmp_path / "site_rounds.jsonl")
    assert (record.last_round, record.transcript_before(2)) == (1, TRANSCRIPT)
    assert record.send(1, sent=SENT) == (SENT,)
    assert not record.sign(2, training_round=1, model_hash=b"m" * 32, survivors=SITES[:1])
    assert PrivacyLedger(tmp_path / "privacy.jsonl").releases() == RELEASES
    log = AuditLog(tmp_path / "audit.jsonl")
    assert [line["event"] for line in log.lines()] == ["started", "answered"]
    log.record("stopped")
    assert log.lines()[2]["number"] == 3
    found = read_ledger(tmp_path / "ledger.jsonl")
    assert [entry.event for entry in found.entries] == ["opened", "round-started", "checkpoint"]
    path = tmp_path / "ledger.jsonl"
    again = Ledger(path, identity=Identity(SERVER, seed=bytes(range(32))))
    again.append(Event.RESUMED, round=1)
    assert read_ledger(path).head == again.head


def test_journals_and_evidence_start_without_heavy_libraries() -> None:
    code = (
        "import sys, phoenix_secure.journal, phoenix_secure.evidence.witness;"
        "print(sorted({'torch', 'scipy', 'pydantic', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

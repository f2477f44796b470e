"""A site's promises: kept over restarts, torn writes, threads and other handles on the file."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from phoenix_secure.errors import CheckpointError, StorageError
from phoenix_secure.federation.site.promises import SiteRecord
from protocol import SentInput

MODEL, OTHER = b"m" * 32, b"o" * 32
SET, SUBSET = ("a", "b", "c", "d", "e"), ("a", "b", "c", "d")


def sign(record: SiteRecord, number: int, training: int, model=MODEL, survivors=SET) -> bool:
    return record.sign(number, training_round=training, model_hash=model, survivors=survivors)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site" / "rounds.jsonl"


def test_protocol_round_is_signed_once_for_ever(path: Path) -> None:
    record = SiteRecord.create(path)
    assert record.last_round == -1
    assert sign(record, 4, 1)
    for reader in (record, SiteRecord(path)):
        assert reader.last_round == 4
        assert not sign(reader, 4, 2)
        assert not sign(reader, 3, 2)
    assert sign(SiteRecord(path), 5, 2)
    assert record.last_round == 5


def test_training_round_is_signed_again_for_the_same_model_and_survivors_only(path: Path) -> None:
    record = SiteRecord.create(path)
    assert sign(record, 1, 1)
    assert not sign(record, 2, 1, survivors=SUBSET)
    assert not sign(record, 2, 1, model=OTHER)
    assert not sign(record, 2, 1, survivors=(*SET, "f"))
    assert sign(record, 2, 1)
    assert record.last_round == 2


def test_training_round_that_was_passed_over_is_not_signed_later(path: Path) -> None:
    record = SiteRecord.create(path)
    assert sign(record, 1, 3)
    assert not record.allows(2, model_hash=MODEL)
    assert not sign(record, 2, 2)
    assert record.allows(3, model_hash=MODEL)
    assert not record.allows(3, model_hash=OTHER)
    assert record.allows(4, model_hash=OTHER)


def test_inputs_of_one_training_round_are_remembered_over_protocol_rounds(path: Path) -> None:
    sent = [
        SentInput(context=bytes([k]) * 32, cohort=SET, quorum=4, num_colluders=1) for k in range(3)
    ]
    counter = SiteRecord.create(path).counter(1, model_hash=MODEL)
    assert counter.record_sent_input(7, sent[0]) == ()
    again = SiteRecord(path).counter(1, model_hash=MODEL)
    assert again.record_sent_input(8, sent[1]) == (sent[0],)
    assert SiteRecord(path).counter(2, model_hash=MODEL).record_sent_input(9, sent[2]) == ()


def test_counter_signs_a_training_round_over_one_set_only(path: Path) -> None:
    counter = SiteRecord.create(path).counter(1, model_hash=MODEL)
    assert counter.record_signed_round(1, SET)
    assert counter.last_signed_round() == 1
    assert not counter.record_signed_round(2, SET[1:])
    assert counter.record_signed_round(2, SET)


def test_transcript_binds_the_very_next_round_only(path: Path) -> None:
    record = SiteRecord.create(path)
    assert record.transcript_before(1) is None
    record.record_result(4, transcript=b"t" * 32)
    assert SiteRecord(path).transcript_before(5) == b"t" * 32
    assert record.transcript_before(6) is None


def test_one_of_many_threads_and_handles_signs(path: Path) -> None:
    records = [SiteRecord.create(path), *(SiteRecord(path) for _ in range(7))]
    results: list[bool] = []
    start = threading.Barrier(8)

    def race(record: SiteRecord, training: int) -> None:
        start.wait()
        results.append(sign(record, 1, training))

    threads = [
        threading.Thread(target=race, args=(record, number + 1))
        for number, record in enumerate(records)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 1


def test_line_cut_short_was_no_promise_and_the_next_one_is_whole(path: Path) -> None:
    record = SiteRecord.create(path)
    sign(record, 1, 1)
    with path.open("a") as file:
        file.write('{"kind":"signed","round":2,"trai')
    again = SiteRecord(path)
    assert again.last_round == 1
    assert sign(again, 2, 2)
    assert SiteRecord(path).last_round == 2


def test_record_is_never_replaced_and_its_loss_is_noticed(path: Path) -> None:
    record = SiteRecord.create(path)
    sign(record, 1, 1)
    with pytest.raises(StorageError):
        SiteRecord.create(path)
    content = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="shorter"):
        record.last_round  # noqa: B018
    path.write_bytes(content.replace(b'"signed"', b'"sealed"'))
    with pytest.raises(CheckpointError, match="line 1"):
        SiteRecord(path).last_round  # noqa: B018
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        SiteRecord(path).last_round  # noqa: B018


def test_full_disk_means_no_signature(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SiteRecord.create(path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk full"):
        sign(record, 1, 1)

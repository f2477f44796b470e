"""The audit log: whatever is changed, moved or taken out is found."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.site.audit_log import AuditLog


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    for number in range(5):
        audit.record("asked", stage=f"stage-{number}")
    return path


def test_lines_follow_from_one_another_and_are_private(log: Path) -> None:
    lines = AuditLog(log).lines()
    assert [line["stage"] for line in lines] == [f"stage-{i}" for i in range(5)]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["previous"] == "0" * 64
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0].replace("stage-0", "stage-9"), *lines[1:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:3], lines[2], *lines[3:]],
    ],
)
def test_changed_missing_moved_and_repeated_lines_are_found(log: Path, tamper) -> None:
    lines = log.read_text().splitlines()
    log.write_text("\n".join(tamper(lines)) + "\n")
    with pytest.raises(CheckpointError, match="changed at line"):
        AuditLog(log)


def test_lines_cut_off_at_the_end_show_in_the_last_hash(log: Path) -> None:
    kept = AuditLog(log).last_hash
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    assert AuditLog(log).last_hash != kept


def test_half_a_line_of_a_crash_is_dropped(log: Path) -> None:
    with log.open("a") as file:
        file.write('{"number": 6, "eve')
    audit = AuditLog(log)
    audit.record("started")
    assert [line["number"] for line in audit.lines()] == [1, 2, 3, 4, 5, 6]


def test_two_writers_keep_one_chain(log: Path) -> None:
    audits = [AuditLog(log) for _ in range(2)]

    def write(audit: AuditLog) -> None:
        for _ in range(20):
            audit.record("asked")

    threads = [threading.Thread(target=write, args=(audit,)) for audit in audits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(AuditLog(log).lines()) == 45

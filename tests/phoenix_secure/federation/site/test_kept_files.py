"""A site's files against its audit log: what is noted, and what counts as lost."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.kept_files import CLOSED, KeptFiles, has_promises

PLAN = "ab" * 32


class Folder:
    """A site's folder whose log notes what it keeps, as the gate does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.audit = AuditLog(path / "audit.jsonl")
        self.record = path / "rounds" / f"{PLAN}.jsonl"
        self.record.parent.mkdir()
        self.kept = KeptFiles(path, audit=self.audit)

    def note(self) -> dict:
        facts = self.kept.news()
        self.audit.record("answered", plan=PLAN, **facts)
        return facts.get("kept", {})

    def lost(self) -> list[str]:
        """As a site that starts again finds it."""
        return KeptFiles(self.path, audit=self.audit).lost()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_new_site_has_nothing_to_lose(folder: Folder) -> None:
    folder.record.touch()
    assert folder.note() == {}
    folder.record.unlink()
    assert folder.lost() == []
    assert not has_promises(folder.path)


def test_growth_is_noted_once_and_by_whole_lines(folder: Folder) -> None:
    folder.record.write_bytes(b"one\ntor")
    ((name, (size, digest)),) = folder.note().items()
    assert (name, size) == (f"rounds/{PLAN}.jsonl", 4)
    assert len(digest) == 64
    folder.record.write_bytes(b"one\ntwo\n")
    assert folder.lost() == []
    assert folder.note()[name][0] == 8
    assert folder.note() == {}
    assert has_promises(folder.path)


def test_log_says_the_same_whoever_read_the_file_before(folder: Folder) -> None:
    """One process that hashes what is new, and one for each line, note the same."""
    other = {}
    for number in range(5):
        with folder.record.open("ab") as file:
            file.write(b"line %d\n" % number + b"torn" * (number % 2))
        marks = folder.note()
        fresh = KeptFiles(folder.path, audit=folder.audit)
        assert fresh.news() == {}
        assert fresh.lost() == []
        other |= marks
        if number % 2:
            folder.record.write_bytes(folder.record.read_bytes().removesuffix(b"torn"))
    content = b"".join(b"line %d\n" % number for number in range(5))
    digest = hashlib.sha256(b"phoenix-secure/kept-file/v1:" + content).hexdigest()
    assert other == {f"rounds/{PLAN}.jsonl": [len(content), digest]}


def test_key_is_noted_by_a_hash_that_says_nothing_about_it(folder: Folder) -> None:
    key = folder.path / "training.key"
    key.write_bytes(bytes(range(32)))
    assert folder.note()["training.key"][0] == 32
    assert bytes(range(32)).hex() not in folder.audit._chain.path.read_text()
    key.write_bytes(bytes(32))
    assert folder.note() == {}
    assert folder.lost() == ["training.key is another one than before"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "missing"),
        (b"", "missing"),
        (b"one\n", "an old copy"),
        (b"one\ntw", "an old copy"),
        (b"one\nTWO\n", "another one"),
        (b"one\nTWO\nthree\n", "another one"),
    ],
)
def test_what_is_lost(folder: Folder, content: bytes | None, problem: str) -> None:
    folder.record.write_bytes(b"one\ntwo\n")
    folder.note()
    folder.record.unlink()
    if content is not None:
        folder.record.write_bytes(content)
    # What is there now is not noted in place of what was.
    folder.note()
    (found,) = folder.lost()
    assert problem in found
    with pytest.raises(CheckpointError, match=r"close-plans"):
        KeptFiles(folder.path, audit=folder.audit).check()


def test_file_that_cannot_be_read_is_an_error_with_its_name(folder: Folder) -> None:
    folder.record.write_bytes(b"one\n")
    folder.note()
    folder.record.unlink()
    folder.record.mkdir()
    with pytest.raises(CheckpointError, match=rf"cannot read .*{PLAN}"):
        folder.lost()


def test_closing_counts_from_what_is_there(folder: Folder) -> None:
    folder.record.write_bytes(b"one\ntwo\n")
    (folder.path / "training.key").write_bytes(bytes(32))
    folder.note()
    folder.record.write_bytes(b"one\n")
    approvals = folder.path / "approvals"
    approvals.mkdir()
    for name in (PLAN, "cd" * 32, "notes"):
        (approvals / f"{name}.json").touch()
    assert KeptFiles(folder.path, audit=folder.audit).close_plans() == (PLAN, "cd" * 32)
    assert [path.stem for path in approvals.iterdir()] == ["notes"]
    line = folder.audit.lines()[-1]
    assert line["event"] == CLOSED
    assert "old copy" in line["why"]
    again = KeptFiles(folder.path, audit=folder.audit)
    assert again.closed == {PLAN, "cd" * 32}
    assert again.lost() == []
    (folder.path / "training.key").unlink()
    assert folder.lost() == ["training.key is missing or empty"]

"""Keys of a run: written once, for their owner alone, loaded where they belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.errors import CheckpointError, StorageError
from phoenix_secure.federation.secagg.keys import RunKeys, read_identity
from protocol import SERVER

SITES = ("site-01", "site-02", "site-03")


def test_keys_load_as_they_were_created_and_nobody_else_can_read_them(tmp_path: Path) -> None:
    made = RunKeys.create(tmp_path, sites=SITES)
    loaded = RunKeys.load(tmp_path, sites=SITES)
    assert loaded.roster == made.roster
    assert {n: i.public_key for n, i in loaded.sites.items()} == dict(made.roster.members)
    keys = list(tmp_path.rglob("identity.key"))
    assert len(keys) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)
    assert all(path.parent.stat().st_mode & 0o077 == 0 for path in keys)


def test_two_runs_share_no_key(tmp_path: Path) -> None:
    one, two = (RunKeys.create(tmp_path / name, sites=SITES) for name in "ab")
    assert not {k for _, k in one.roster.members} & {k for _, k in two.roster.members}
    assert one.roster.federation_id != two.roster.federation_id


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    made = RunKeys.create(tmp_path, sites=SITES)
    with pytest.raises(StorageError):
        RunKeys.create(tmp_path, sites=SITES)
    assert RunKeys.load(tmp_path, sites=SITES).server.public_key == made.server.public_key


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_damaged_key_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    RunKeys.create(tmp_path, sites=SITES)
    path = tmp_path / "sites" / "site-02" / "identity.key"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"site-02.*damaged") as caught:
        RunKeys.load(tmp_path, sites=SITES)
    assert content.decode() not in str(caught.value) or not content


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    RunKeys.create(tmp_path, sites=SITES)
    key = tmp_path / "server" / "identity.key"
    key.chmod(0o640)
    with pytest.raises(CheckpointError, match="chmod 600"):
        read_identity(key, id=SERVER)


def test_foreign_keys_and_rosters_are_refused(tmp_path: Path) -> None:
    RunKeys.create(tmp_path / "a", sites=SITES)
    RunKeys.create(tmp_path / "b", sites=SITES)
    roster = tmp_path / "a" / "roster.bin"
    mine = roster.read_bytes()
    roster.write_bytes((tmp_path / "b" / "roster.bin").read_bytes())
    with pytest.raises(CheckpointError, match="roster"):
        RunKeys.load(tmp_path / "a", sites=SITES)
    roster.write_bytes(mine)
    key = tmp_path / "a" / "sites" / "site-01" / "identity.key"
    key.write_bytes((tmp_path / "b" / "sites" / "site-01" / "identity.key").read_bytes())
    with pytest.raises(CheckpointError, match="site-01"):
        RunKeys.load(tmp_path / "a", sites=SITES)
    key.unlink()
    with pytest.raises(CheckpointError, match=r"identity\.key"):
        RunKeys.load(tmp_path / "a", sites=SITES)

"""The run folder's lock: real processes race for it, and one alone gets in."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder

_RACER = """
import sys
from pathlib import Path

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder

config = load_config(None, [])
print("ready", flush=True)
for line in sys.stdin:
    path, overwrite = line.split()
    folder = RunFolder(Path(path))
    try:
        with folder.lock():
            folder.create(config, overwrite=overwrite == "True")
            (folder.path / sys.argv[1]).write_text("mine")
            print("won", flush=True)
            sys.stdin.readline()
            assert (folder.path / sys.argv[1]).read_text() == "mine"
            assert not (folder.path / sys.argv[2]).exists()
        print("left", flush=True)
    except ConfigError as error:
        print(error, flush=True)
"""


class Racer:
    def __init__(self, name: str, other: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RACER, name, other],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.long
@pytest.mark.parametrize("overwrite", [False, True])
def test_one_of_two_processes_that_start_at_once_wins(
    tmp_path: Path, tiny_config: RunConfig, *, overwrite: bool
) -> None:
    racers = [Racer("a", "b"), Racer("b", "a")]
    try:
        assert [racer.hear() for racer in racers] == ["ready", "ready"]
        for number in range(40):
            path = tmp_path / str(number)
            if overwrite:
                RunFolder(path).create(tiny_config, overwrite=False)
                (path / "old").write_text("of the run that is replaced")
            for racer in racers:
                racer.tell(f"{path} {overwrite}")
            said = [racer.hear() for racer in racers]
            assert said.count("won") == 1, said
            assert "another process is working in" in max(said, key=len)
            winner = racers[said.index("won")]
            winner.tell("leave")
            assert winner.hear() == "left"
            assert not (path / "old").exists()
    finally:
        for racer in racers:
            racer.end()


def test_a_killed_process_leaves_the_folder_to_others(
    tmp_path: Path, tiny_config: RunConfig
) -> None:
    racer = Racer("a", "b")
    try:
        racer.hear()
        racer.tell(f"{tmp_path / 'run'} False")
        assert racer.hear() == "won"
        folder = RunFolder(tmp_path / "run")
        with pytest.raises(ConfigError, match="another process"):
            folder.create(tiny_config, overwrite=True)
        assert (folder.path / "a").exists()
    finally:
        racer.end()
    folder.create(tiny_config, overwrite=True)
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "config.yaml"]


def test_the_lock_can_be_taken_again_in_its_thread_alone(
    tmp_path: Path, tiny_config: RunConfig
) -> None:
    folder = RunFolder(tmp_path / "run")
    refused: list[str] = []

    def intrude() -> None:
        try:
            folder.create(tiny_config, overwrite=True)
        except ConfigError as error:
            refused.append(str(error))

    with folder.lock():
        folder.create(tiny_config, overwrite=False)
        (folder.path / "sites").mkdir()
        with RunFolder(tmp_path / "run" / ".." / "run").lock():
            pass
        intruder = threading.Thread(target=intrude)
        intruder.start()
        intruder.join()
    assert len(refused) == 1
    assert (folder.path / "sites").exists()
    intrude()
    assert len(refused) == 1
    assert not (folder.path / "sites").exists()


def test_a_folder_of_something_else_gets_not_even_a_lock(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="not a run"), RunFolder(tmp_path).lock():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_settings_survive_longest_where_a_run_is_replaced(
    tmp_path: Path, tiny_config: RunConfig
) -> None:
    """Killed half way, the folder is still a run, which --overwrite can replace."""
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config, overwrite=False)
    code = (
        "import os, sys; from pathlib import Path; "
        "from phoenix_secure.config_file import load_config; "
        "from phoenix_secure.federation.run.folder import RunFolder; "
        "sys.addaudithook(lambda event, args: os._exit(9) "
        "if event == 'os.remove' and str(args[0]).endswith('last') else None); "
        "RunFolder(Path(sys.argv[1])).create(load_config(None, []), overwrite=True)"
    )
    for name in ("a", "z-last"):
        (folder.path / name).write_text("x")
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False)
    assert done.returncode == 9
    assert folder.load_config() == tiny_config
    folder.create(load_config(None, []), overwrite=True)
    assert not (folder.path / "z-last").exists()

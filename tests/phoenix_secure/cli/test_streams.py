"""Output that cannot be written or shown, and ``~`` in paths: processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from phoenix_secure.cli.app import app
from phoenix_secure.cli.home import read_home

PROGRAM = [sys.executable, "-m", "phoenix_secure"]


def run(
    *arguments: object, cwd: Path, stdout: object = subprocess.PIPE, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        stdout=stdout,  # type: ignore[arg-type]
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", **environ},
        check=False,
        timeout=120,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A class whose name no ASCII terminal shows."""
    rng = np.random.default_rng(0)
    for name in ("病理切片", "naïve"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "scans" / name / f"{number}.png")
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize(
    "environ", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_output_in_any_encoding_is_replaced_and_no_traceback(
    pictures: Path, environ: dict[str, str]
) -> None:
    done = run("data", "show", "image-folder", "--path", "scans", cwd=pictures, **environ)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    missing = run("data", "show", "image-folder", "--path", "切片", cwd=pictures, **environ)
    assert (missing.returncode, missing.stderr.count(b"\n")) == (10, 1), missing.stderr


@pytest.mark.parametrize("command", [["data", "list"], ["--help"], ["config", "schema"]])
def test_a_full_device_is_one_line_and_exit_12(command: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*command, cwd=tmp_path, stdout=full)
    assert done.returncode == 12, done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"cannot write the output" in done.stderr


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = run("data", "list", cwd=tmp_path, stdout=closed)
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")


def test_home_is_read_in_every_path(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "one").mkdir(parents=True)
    np.savez(home / "one" / "d.npz", images=np.full((4, 1, 8, 8), 200, np.uint8))
    monkeypatch.setenv("HOME", str(home))
    found = cli("data", "show", "npz", "--path", "~/one/d.npz")
    assert found.code == 0, found.err
    done = cli("deploy", "init", "~/trial", "--sites", "5")
    assert done.code == 0, done.err
    assert (home / "trial" / "server" / "server.yaml").is_file()
    assert cli("site", "show", "~/trial/sites/site-01").code == 0
    assert "nobody" in cli("evaluate", "~nobody-here/run").err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("~")]


def test_no_path_of_the_command_line_is_left_out() -> None:
    """Paths, and texts that may be one."""
    left = {
        "federation", "folder", "path", "reference", "run_dir", "out", "file", "target", "members",
        "cache_dir", "syftbox", "key", "evidence", "roster", "governance", "sweep",
    }  # fmt: skip

    def walk(command: object) -> None:
        for each in getattr(command, "commands", {}).values():
            walk(each)
        for parameter in command.params:  # type: ignore[attr-defined]
            kind = type(parameter.type).__name__
            assert kind != "TyperPath", parameter.name
            if kind == "_InHome":
                left.discard(parameter.name)

    walk(read_home(typer.main.get_command(app)))
    assert not left


def test_nothing_in_a_path_is_markup(cli) -> None:
    np.savez("d.npz", images=np.full((4, 1, 8, 8), 200, np.uint8))
    done = cli("privacy", "hash", "d.npz", "--key", "k[bold]", "--out", "[/red].txt")
    assert done.code == 0, done.err
    assert "in [/red].txt" in done.out
    assert "made k[bold]" in done.out


@pytest.mark.parametrize("name", ["x" * 5000, "two\nlines\x1b[31m", "a" * 240])
def test_a_strange_name_is_one_short_line(cli, name: str) -> None:
    for arguments in (["run", name], ["config", "show", "demo", f"data.path={name}", "seed=x"]):
        done = cli(*arguments)
        assert done.code == 2, done.err
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        assert "\x1b" not in done.err
        assert len(done.err) < 1600

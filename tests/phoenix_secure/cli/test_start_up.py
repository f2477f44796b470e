"""What a command may import: who only looks something up does not wait for torch to load.

Every command runs to its end on real files, in a process of its own that holds the command line
and nothing else, and the packages that it brought in are compared with those it must do without.
No time is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer

from built_once import built_once
from command_line import phoenix
from phoenix_secure.cli.app import app
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.engines.bundle import bundle_hash, make_bundle
from phoenix_secure.federation.run.plan import Plan

SETTINGS = """\
data: {name: digits, max_images: 400}
partition: {num_sites: 5}
model: {block_channels: [8], attention: [false]}
diffusion: {num_timesteps: 50}
training: {batch_size: 8, local_steps: 2}
federation: {rounds: 1}
sampling: {num_steps: 2}
evaluation: {num_images: 0}
output: {samples_every_rounds: 0, num_samples: 4, report: true}
device: cpu
"""
PRIVATE = ("privacy.unit=record", "privacy.noise_multiplier=0.6", "privacy.sampling_rate=0.05")

# Runs the commands of a JSON list as the console script would, each in a fork of an interpreter
# that has only imported the command line, and writes to a file, for each, its exit code and the
# packages that are loaded by then.
PROBE = """
import json, os, sys, tempfile
from pathlib import Path
import typer.rich_utils  # of every help page
from phoenix_secure.cli import main

report, commands = sys.argv[1:]


def run(arguments, found):
    sys.argv = ["phoenix-secure", *arguments]
    try:
        main()
    except SystemExit as end:
        names = sorted({name.partition(".")[0] for name in sys.modules})
        found.write_text(json.dumps([end.code or 0, names]))
        sys.stdout.flush()


results = []
with tempfile.TemporaryDirectory() as folder:
    for number, arguments in enumerate(json.loads(commands)):
        found = Path(folder, str(number))
        child = os.fork()
        if not child:
            try:
                run(arguments, found)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        results.append(json.loads(found.read_text()))
Path(report).write_text(json.dumps(results))
"""

# fmt: off
TRAINING = frozenset({
    "accelerate", "datasets", "diffusers", "flwr", "grpc", "huggingface_hub", "jax", "matplotlib",
    "numba", "opacus", "pandas", "pyarrow", "ray", "safetensors", "sklearn", "syft",
    "syft_datasets", "syft_job", "timm", "torch", "torchvision", "transformers",
})
# fmt: on
NUMERICS = frozenset({"dp_accounting", "scipy"})
NO_NUMBERS = TRAINING | NUMERICS
ARRAYS_AND_KEYS = frozenset({"PIL", "cryptography", "numpy"})
EVERYTHING = NO_NUMBERS | ARRAYS_AND_KEYS | {"pydantic", "yaml"}

SITE = "trial/sites/site-01"
LIGHT = {
    "config show": NO_NUMBERS | ARRAYS_AND_KEYS,
    "config show tiny.yaml federation.rounds=7": NO_NUMBERS | ARRAYS_AND_KEYS,
    "config schema": NO_NUMBERS | ARRAYS_AND_KEYS,
    "config explain privacy": NO_NUMBERS | ARRAYS_AND_KEYS,
    "runs list .": NO_NUMBERS,
    "compare plain private": NO_NUMBERS,
    f"site show {SITE}": NO_NUMBERS,
    f"site plans {SITE}": NO_NUMBERS,
    # Its budget is accounted for, by the library that charges it.
    f"site approve {SITE} PLAN --yes": frozenset({"flwr", "matplotlib", "pandas", "syft"}),
    f"site log {SITE}": NO_NUMBERS,
    f"site reject {SITE} PLAN --reason later": NO_NUMBERS,
    f"site renew {SITE}": NO_NUMBERS,
    "deploy init other --sites 5": NO_NUMBERS,
    "deploy found chest": NO_NUMBERS,
    "deploy show chest": NO_NUMBERS,
    "server init new-server --name chest": NO_NUMBERS,
    "site init new-site --name clinic --federation chest": NO_NUMBERS,
    "server show trial": NO_NUMBERS,
    "site show new-site": NO_NUMBERS,
    "doctor --federation trial": NO_NUMBERS,
    "verify plain/report/report.json --evidence plain --roster plain/roster.bin": NO_NUMBERS,
    # The second accountant of a private run is dp-accounting, which computes with scipy.
    "verify private/report/report.json --evidence private --roster private/roster.bin": TRAINING,
    "report schema": NO_NUMBERS,
    "report clauses --profile edpb": NO_NUMBERS,
    "report --template": NO_NUMBERS,
    "report diff plain/report/report.json private/report/report.json": NO_NUMBERS,
    "report build plain --out again": NO_NUMBERS,
    "report sign again/report.json --key officer.key --new-key": NO_NUMBERS,
    "sweep status swept": NO_NUMBERS,
    "audit --schema": NO_NUMBERS | ARRAYS_AND_KEYS,
    "data list": NO_NUMBERS,
    "data show npz --path images.npz": NO_NUMBERS,
    "data partition npz --path images.npz": TRAINING,
}
# What these commands answer when all is well, where it is not 0.
EXIT_CODES = {
    "doctor --federation trial": 1,  # nobody serves it
    "report diff plain/report/report.json private/report/report.json": 8,
}


def probe(folder: Path, commands: Iterable[list[str]]) -> list[tuple[int, set[str]]]:
    """Exit code and loaded packages after each of ``commands``."""
    report = folder / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(report), json.dumps(list(commands))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PHOENIX_DATA_DIR": str(folder / "cache")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, set(names)) for code, names in json.loads(report.read_text())]


def commands_of(group: click.Command, path: tuple[str, ...] = ()) -> list[list[str]]:
    """Every command and group below ``group``, and itself."""
    below: dict[str, Any] = getattr(group, "commands", {})
    found = [list(path)]
    for name, command in below.items():
        found += commands_of(command, (*path, name))
    return found


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """What each of ``LIGHT`` ended with and loaded, over a federation with an offered plan and the
    reports of a plain and of a private run."""

    def build(root: Path) -> None:
        _make_files(root)
        [plan] = (root / SITE / "plans").glob("*.json")
        probe(root, (command.replace("PLAN", plan.stem).split() for command in LIGHT))

    root = built_once(tmp_path_factory, "start-up", build)
    results = json.loads((root / "loaded.json").read_text())
    return {
        command: (code, set(names)) for command, (code, names) in zip(LIGHT, results, strict=True)
    }


def _run(*arguments: str, cwd: Path) -> None:
    outcome = phoenix(*arguments, cwd=cwd, environ={"PHOENIX_DATA_DIR": str(cwd / "cache")})
    assert outcome.code == 0, outcome.err


def _make_files(root: Path) -> None:
    (root / "tiny.yaml").write_text(SETTINGS)
    (root / "swept").mkdir()
    (root / "swept" / "sweep.yaml").write_text("settings: {data.name: digits}\naxes: {seed: [0]}\n")
    pixels = np.arange(64 * 8 * 8, dtype=np.uint8).reshape(64, 8, 8)
    np.savez(root / "images.npz", images=pixels, labels=np.arange(64) % 4)
    _run("deploy", "init", "trial", "--sites", "5", cwd=root)
    changes = ["data.name=digits", "data.image_size=8", "data.channels=1", "partition.num_sites=5"]
    plan = Plan.make(
        load_config(None, changes),
        roster=ServerFolder(root / "trial" / "server").roster(),
        bundle_hash=bundle_hash(make_bundle()),
    )
    site = SiteFolder(root / SITE)
    site.make_folders()
    (site.plans / f"{plan.hash}.json").write_bytes(plan.to_bytes())
    site.audit().record("started")
    _run("run", "tiny.yaml", "--run-dir", "plain", cwd=root)
    _run("run", "tiny.yaml", *PRIVATE, "--run-dir", "private", cwd=root)


@pytest.mark.long
@pytest.mark.parametrize("command", LIGHT)
def test_what_needs_no_training_does_not_load_it(
    found: dict[str, tuple[int, set[str]]], command: str
) -> None:
    code, loaded = found[command]
    assert code == EXIT_CODES.get(command, 0)
    too_heavy = loaded & LIGHT[command]
    assert not too_heavy


def test_help_loads_the_command_line_alone(tmp_path: Path) -> None:
    pages = commands_of(typer.main.get_command(app))
    assert {("site", "show"), ("verify",)} <= {tuple(page) for page in pages}
    found = probe(tmp_path, ([*page, "--help"] for page in pages))
    for page, (code, loaded) in zip(pages, found, strict=True):
        assert code == 0
        too_heavy = loaded & EVERYTHING
        assert not too_heavy, page


def test_the_probe_sees_what_is_loaded(found: dict[str, tuple[int, set[str]]]) -> None:
    """The command that accounts for a budget loads nearly all that the others must not."""
    code, loaded = found[f"site approve {SITE} PLAN --yes"]
    assert code == 0
    assert {"torch", "opacus", "dp_accounting", "scipy", "numpy"} <= loaded

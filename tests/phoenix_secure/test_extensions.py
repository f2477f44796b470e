"""Extensions are found by name, used where their point says, and refused with one clear line."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

import phoenix_secure as ps
from phoenix_secure import extensions
from phoenix_secure.config_file import load_config, parse_config
from phoenix_secure.errors import ConfigError, DataError
from phoenix_secure.extensions import ExtensionPoint, extension, extension_names

SCANNED = importlib.metadata.EntryPoints()
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is forgotten after it."""
    monkeypatch.setattr(extensions, "_REGISTERED", {})


@pytest.mark.long
@pytest.mark.parametrize(
    "guarantee",
    [{}, {"privacy": {"unit": "record", "noise_multiplier": 1.0, "sampling_rate": 0.05}}],
    ids=["secure", "secure and private"],
)
def test_the_plug_in_runs_under_secure_aggregation_and_under_privacy(
    guarantee: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = runpy.run_path(str(EXAMPLES / "plug_in.py"))
    settings = {
        **module["SETTINGS"],
        "federation": {**module["SETTINGS"]["federation"], "rounds": 1},
        "training": {"batch_size": 8, "local_steps": 1},
        "evaluation": {"num_images": 60, "metrics": ["brightness"]},
        **guarantee,
    }
    result = ps.run(settings, run_dir=tmp_path / "run")
    assert result.summary.secure is not None
    assert capsys.readouterr().out.startswith("run: round 1, loss ")
    rows = (result.summary.quality or {})["rows"]
    assert set(rows) == {name for name, row in rows.items() if np.isfinite(row["brightness"])}
    assert result.sample(2).images.shape == (2, 1, 8, 8)  # opened from its folder
    strategies = json.loads((tmp_path / "run" / "summary.json").read_text())["strategies"]
    assert strategies["exchange"]["strategy"] == "normalised"
    if not guarantee:
        found = result.audit(profile="smoke", attacks=["smoothness"])
        assert [one.name for one in found.report.attacks] == ["smoothness"]
    written = result.report(sections=["gaps-by-section"], pdf=False)
    assert [each.title for each in written.written.report.annex] == ["Gaps by part"]
    checked = ps.verify(written.folder / "report.json", evidence=result.path)
    assert checked.failed == ()


def test_an_installed_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clinic.py").write_text("def by_ward(labels, **options): return []\n")
    info = tmp_path / "clinic-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clinic\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[phoenix_secure.partition]\nby-ward = clinic:by_ward\nbroken = nowhere:x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert extension_names(ExtensionPoint.PARTITION) == ("broken", "by-ward")
    assert parse_config({"partition": {"scheme": "by-ward"}}).partition.scheme == "by-ward"
    assert "clinic" not in sys.modules
    assert extension(ExtensionPoint.PARTITION, "by-ward").__name__ == "by_ward"
    with pytest.raises(ConfigError, match=r"partition broken of nowhere:x cannot be imported"):
        extension(ExtensionPoint.PARTITION, "broken")
    with patch.dict(sys.modules):
        sys.modules.pop("clinic")


def test_settings_do_not_read_every_installed_package_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_config(None, [])
    read: list[str] = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: read.append(group) or SCANNED
    )
    for _ in range(2):
        load_config(None, ["data.name=digits"])
    assert read == []
    monkeypatch.setattr(sys, "path", [*sys.path, "/another/folder"])  # it may hold packages
    load_config(None, ["data.name=digits"])
    assert read == ["phoenix_secure.data_source"]


def test_a_name_that_nothing_answers_to_is_refused_with_the_known_ones() -> None:
    ps.register("partition", "by-ward", lambda labels, **options: [])
    with pytest.raises(
        ConfigError, match=r"partition\.scheme: .*'iid', .*installed partition \(by-ward\)"
    ):
        parse_config({"partition": {"scheme": "by-hospital"}})
    with pytest.raises(ConfigError, match=r"evaluation\.metrics: no metric 'fid' is registered"):
        parse_config({"evaluation": {"metrics": ["fid"]}})


@pytest.mark.parametrize(
    ("point", "name", "given", "message"),
    [
        ("partitions", "x", print, "no extension point 'partitions': use one of data_source"),
        ("partition", "By Ward", print, "lower-case letters"),
        ("partition", "x", 3, "expected something to call"),
    ],
)
def test_what_is_no_extension_is_refused(point: str, name: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ps.register(point, name, given)


TINY = {
    "data": {"name": "digits"},
    "partition": {"num_sites": 5, "scheme": "own"},
    "secure_aggregation": {"mode": "on"},
    "evaluation": {"num_images": 0},
}


@pytest.mark.parametrize(
    "dealt",
    [
        lambda n: [np.arange(n)] * 5,  # every image at every site
        lambda n: list(np.array_split(np.arange(n - 1), 5)),  # one is lost
        lambda n: [np.arange(n)],  # one site
    ],
)
def test_a_partition_that_is_none_is_refused(dealt: Any, tmp_path: Path) -> None:
    ps.register("partition", "own", lambda labels, *, num_images, num_sites, rng: dealt(num_images))
    with pytest.raises(DataError, match=r"must deal each of .* images to one of 5 sites"):
        ps.run(TINY, run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda path: {}, "no usable images: 'images'"),
        (lambda path: {"images": np.zeros((3, 8, 8), np.float32)}, "expected images"),
        (lambda path: {"images": np.zeros((3, 1, 8, 8), np.uint8), "labels": [0, 1, 9]}, "labels"),
    ],
)
def test_a_source_without_usable_images_is_refused(
    given: Any, message: str, tmp_path: Path
) -> None:
    ps.register("data_source", "own", given)
    with pytest.raises(DataError, match=message):
        ps.run({"data": {"name": "own"}}, run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda **form: "a string", r"must be a torch\.nn\.Module"),
        (
            lambda **form: torch.nn.BatchNorm2d(1),
            "BatchNorm2d, which mixes the images of a batch",
        ),
    ],
)
def test_a_network_that_cannot_be_private_is_refused(
    build: Any, message: str, tmp_path: Path
) -> None:
    ps.register("network", "own", build)
    with pytest.raises(ConfigError, match=message):
        ps.run(
            {**TINY, "partition": {"num_sites": 5}, "model": {"network": "own"}},
            run_dir=tmp_path / "run",
        )

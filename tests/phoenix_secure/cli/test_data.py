from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phoenix_secure.cli.data import app
from phoenix_secure.data.sources import DATASETS
from phoenix_secure.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format", "json"))


def test_list_names_every_set_with_its_licence_and_whether_it_is_here(empty_cache: Path) -> None:
    text = run("list")
    assert all(name in text for name in DATASETS)
    rows = {row["name"]: row for row in run_json("list")}
    assert tuple(rows) == DATASETS
    assert all(row["licence"] for row in rows.values())
    assert rows["digits"]["available"] == "bundled"
    assert rows["cifar10"]["available"] == "not fetched"
    assert rows["npz"]["available"] == "yours"
    empty_cache.mkdir()
    (empty_cache / "cifar10.npz").touch()
    assert {r["name"]: r["available"] for r in run_json("list")}["cifar10"] == "cached"


def test_show_counts_measures_and_pictures_a_set(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    shown = run_json("show", "digits", "--out", str(sheet))
    assert shown["num_images"] == sum(shown["images_per_class"]) == 1797
    assert shown["num_duplicates"] == 0
    assert len(shown["digest"]) == 64
    assert len(shown["mean"]) == len(shown["std"]) == shown["channels"] == 1
    with Image.open(sheet) as picture:
        assert picture.size[0] > 100
    text = run("show", "digits")
    assert shown["digest"] in text
    assert "1,797 of 8 x 8 x 1" in text


def test_show_takes_a_folder_whose_names_look_like_markup(tmp_path: Path) -> None:
    folder = tmp_path / "[bold]mine"
    (folder / "[red]class").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "[red]class" / "a.png")
    text = "".join(run("show", "image-folder", "--path", str(folder)).split())
    assert "[red]class" in text
    assert "[bold]mine" in text


def odd_folder(root: Path) -> Path:
    """Two deep pictures in train, one in test, and a HEIC file."""
    for folder, number in (("train", 0), ("train", 1), ("test", 2)):
        (root / folder / "cat").mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8), 1000 * (number + 1), np.uint16)
        Image.fromarray(pixels).save(root / folder / "cat" / f"{number}.png")
    (root / "train" / "cat" / "scan.heic").write_bytes(b"x")
    return root


def test_show_prints_what_was_read_and_what_was_not(tmp_path: Path) -> None:
    folder = odd_folder(tmp_path / "odd")
    options = ["--path", str(folder), "--part", "train", "--window", "0", "4000"]
    shown = run_json("show", "image-folder", *options)["inventory"]
    assert (shown["num_read"], shown["num_passed_over"]) == (2, 1)
    assert shown["passed_over"] == [
        {"why": "HEIC (.heic), not read", "count": 1, "first_names": ["train/cat/scan.heic"]}
    ]
    assert shown["not_chosen"][0]["first_names"] == ["test/cat/2.png"]
    assert (shown["part"], shown["bits_per_channel"]) == ("train", 16)
    assert shown["labels_from"] == "sub-folders"
    text = " ".join(run("show", "image-folder", *options).split())
    assert "read 2, 1 passed over" in text
    assert "passed over: 1 HEIC (.heic), not read (train/cat/scan.heic)" in text
    assert "values in the window [0, 4000]; 16 bits as stored" in text
    for missing, message in (("--part", "look like parts"), ("--window", "more than 8 bits")):
        at = options.index(missing)
        fewer = options[:at] + options[at + (2 if missing == "--part" else 3) :]
        with pytest.raises(DataError, match=message):
            run("show", "image-folder", *fewer)
    with pytest.raises(DataError, match=r"strict.*scan\.heic"):
        run("show", "image-folder", *options, "--strict")


@pytest.mark.parametrize(
    "options",
    [
        ["--scheme", "iid"],
        ["--scheme", "dirichlet", "--alpha", "0.3", "--min-images", "5"],
        ["--scheme", "shards", "--shards", "3"],
        ["--scheme", "quantity", "--alpha", "1"],
    ],
)
def test_partition_measures_every_scheme(options: list[str]) -> None:
    found = run_json("partition", "digits", "--sites", "4", *options)
    assert sum(found["images_per_site"]) == 1797
    assert len(found["effective_classes_per_site"]) == 4
    assert np.allclose(np.sum(found["label_distribution"], axis=1), 1)
    assert found == run_json("partition", "digits", "--sites", "4", *options)
    other = run_json("partition", "digits", "--sites", "4", "--seed", "1", *options)
    assert other["label_distribution"] != found["label_distribution"]


def test_partition_prints_its_figures_and_draws_who_holds_what(tmp_path: Path) -> None:
    picture = tmp_path / "partition.png"
    text = run("partition", "digits", "--sites", "3", "--out", str(picture))
    assert "site 3" in text
    assert "Jensen-Shannon" in text
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


def test_partition_of_images_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.arange(160, dtype=np.uint8).reshape(10, 4, 4))
    own = ["partition", "npz", "--path", str(tmp_path / "x.npz"), "--sites", "2"]
    assert "no labels" in run(*own, "--scheme", "iid")
    assert run_json(*own, "--scheme", "quantity")["mean_pairwise_jensen_shannon"] is None
    with pytest.raises(ConfigError, match="use iid or quantity"):
        run(*own, "--scheme", "dirichlet")


def test_nothing_is_written_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("list")
    run("show", "digits")
    run("partition", "digits")
    assert list(Path().iterdir()) == []
    assert not empty_cache.exists()


def test_options_without_meaning_for_the_scheme_are_refused() -> None:
    with pytest.raises(ConfigError, match="--alpha has no meaning for iid"):
        run("partition", "digits", "--scheme", "iid", "--alpha", "1")
    with pytest.raises(ConfigError, match="--shards has no meaning for dirichlet"):
        run("partition", "digits", "--shards", "2")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--sites", "5000"], "num_sites: .* less than or equal to 1000"),
        (["--alpha", "0"], "alpha: .* greater than 0"),
        (["--alpha", "nan"], "alpha: .* finite"),
        (["--scheme", "shards", "--shards", "0"], "shards_per_site: .* greater than or equal to 1"),
    ],
)
def test_options_beyond_their_range_are_one_line(option: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^partition: {told}"):
        run("partition", "digits", *option)


def test_errors_reach_the_top_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        run("show", "minst")
    with pytest.raises(DataError, match="phoenix-secure data fetch mnist"):
        run("show", "mnist")
    with pytest.raises(ConfigError, match="needs no fetching"):
        run("fetch", "digits")


@pytest.mark.parametrize("command", ["list", "fetch", "show", "partition"])
def test_every_command_explains_itself(command: str) -> None:
    text = run(command, "--help")
    assert "--format" in text
    assert len(text) > 300

"""site.yaml and server.yaml: nothing that an owner wrote is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_settings import load_site_settings

SITE = """\
site: clinic
federation: a
server: 127.0.0.1:9443
data: {name: npz, path: "%s"}
policy: {max_epsilon: 8}
"""


def write(tmp_path: Path, *, path: str = "d.npz", more: str = "") -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(SITE % path + more)
    return file


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("policy: {max_rounds: 5}\n", "gives policy twice, in lines 5 and 6"),
        ("device: on\n", "device"),
        ("device: 1\n", "device: YAML reads a number here: write the text in quotes"),
        ("syft: {folder: a, folder: b}\n", "gives syft.folder twice"),
        ("polcy: {}\n", "did you mean policy"),
    ],
)
def test_a_site_s_settings_are_refused_by_line(more: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load_site_settings(write(tmp_path, more=more))


def test_paths_are_absolute_and_know_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_site_settings(write(tmp_path)).data.path == str(tmp_path / "d.npz")
    home = write(tmp_path, path="~/d.npz", more="approver: syft\nsyft: {folder: ~/box}\n")
    found = load_site_settings(home)
    assert found.data.path == "/home/someone/d.npz"
    assert found.syft is not None
    assert found.syft.folder == "/home/someone/box"


def test_own_names_of_classes_are_for_own_images(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text(
        file.read_text().replace('npz, path: "d.npz"', "npz, path: d, classes: {b: x, o: null}")
    )
    assert load_site_settings(file).data.classes == {"b": "x", "o": None}
    file.write_text(file.read_text().replace("name: npz, path: d", "source: share-of-plan"))
    with pytest.raises(ConfigError, match="classes is for own images"):
        load_site_settings(file)

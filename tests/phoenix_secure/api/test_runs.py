"""The Python interface on real digits: arrays in, typed results out, the command line's figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import phoenix_secure as ps
from phoenix_secure.api.given_images import data_settings
from phoenix_secure.errors import CheckpointError, ConfigError, DataError
from phoenix_secure.federation.run.folder import RunFolder

SETTINGS: dict[str, Any] = {
    "partition": {"num_sites": 5, "scheme": "iid"},
    "model": {"block_channels": [8, 8], "attention": [False, False]},
    "diffusion": {"num_timesteps": 50},
    "training": {"batch_size": 8, "local_steps": 1},
    "federation": {"rounds": 2},
    "sampling": {"num_steps": 2},
    "evaluation": {"num_images": 0},
    "output": {"samples_every_rounds": 0, "num_samples": 4},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    return np.uint8(bunch.images * 15.9), np.int64(bunch.target)


@pytest.fixture(scope="module")
def finished(
    digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> ps.RunResult:
    events: list[Any] = []
    folder = tmp_path_factory.mktemp("api") / "run"
    result = ps.run(SETTINGS, data=digits, run_dir=folder, on_event=events.append)
    rounds = [event for event in events if isinstance(event, ps.RoundReport)]
    stages = [event for event in events if isinstance(event, ps.StageReport)]
    assert [event.round_number for event in rounds] == [1, 2]
    assert stages
    return result


@pytest.mark.long
def test_arrays_are_kept_beside_the_run_for_their_owner_alone(finished: ps.RunResult) -> None:
    kept = Path(str(finished.config.data.path))
    assert kept == finished.path.with_name("run-images.npz")
    assert kept.stat().st_mode & 0o077 == 0
    assert finished.config.data.name == "npz"


def test_a_run_samples_and_tells_what_it_did(finished: ps.RunResult, tmp_path: Path) -> None:
    samples = finished.sample(3, seed=1)
    assert samples.images.shape == (3, 1, 8, 8)
    assert samples.images.dtype == np.uint8
    np.testing.assert_array_equal(samples.images, finished.sample(3, seed=1).images)
    assert samples.save(tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(samples.save_each(tmp_path / "each").iterdir())) == len(samples) == 3
    assert finished.summary.rounds == 2
    assert [line["round_number"] for line in finished.metrics] == [1, 2]
    assert ps.open_run(finished.path) == finished


def test_results_show_themselves_in_a_notebook(finished: ps.RunResult) -> None:
    page = finished._repr_html_()
    assert "secure aggregation" in page
    assert "data:image/png;base64," in page
    assert "data:image/png;base64," in finished.sample(2)._repr_html_()


@pytest.mark.long
def test_an_interrupted_run_resumes_to_the_same_weights(
    finished: ps.RunResult, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    def stop(event: object) -> None:
        if isinstance(event, ps.RoundReport):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ps.run(SETTINGS, data=digits, run_dir=tmp_path / "run", on_event=stop)
    result = ps.resume(tmp_path / "run")
    ours, theirs = (RunFolder(run.path).load_state(config=run.config) for run in (result, finished))
    np.testing.assert_array_equal(ours.parameters, theirs.parameters)


@pytest.mark.long
def test_reports_are_signed_and_verified(finished: ps.RunResult) -> None:
    written = finished.report()
    assert (written.folder / "report.html").exists()
    assert written.failures == ()
    assert "signed report" in written._repr_html_()
    found = ps.verify(
        written.folder / "report.json", evidence=finished.path, roster=finished.path / "roster.bin"
    )
    assert not found.failed


class Pairs:
    """A torch ``Dataset`` is anything with these two methods."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._images[index], int(self._labels[index])


def hugging_face(images: np.ndarray, labels: np.ndarray) -> Any:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    features = datasets.Features(
        {"picture": datasets.Image(), "digit": datasets.ClassLabel(names=list("0123456789"))}
    )
    pictures = [Image.fromarray(image) for image in images]
    return datasets.Dataset.from_dict({"picture": pictures, "digit": labels}, features=features)


@pytest.mark.parametrize("form", ["array", "pair", "dictionary", "pairs", "hugging face"])
def test_the_same_images_in_every_form(
    form: str, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits[0][:20], digits[1][:20]
    given: Any = {
        "array": lambda: images,
        "pair": lambda: (images, labels),
        "dictionary": lambda: {"images": images, "labels": labels},
        "pairs": lambda: Pairs(images, labels),
        "hugging face": lambda: hugging_face(images, labels),
    }[form]()
    settings = data_settings(given, keep_at=tmp_path / "kept.npz")
    with np.load(settings["path"], allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["images"], images)
        if form != "array":
            np.testing.assert_array_equal(kept["labels"], labels)


def wrong() -> Iterator[tuple[Any, type[Exception], str]]:
    picture = np.zeros((8, 8), np.uint8)
    yield "no-such-set", ConfigError, "no file, folder or data set no-such-set"
    yield 7, ConfigError, "a int is none of"
    yield {"image": picture[None]}, ConfigError, "expected the keys images"
    yield (picture, picture, picture), ConfigError, "a tuple of 3"
    yield [picture, np.zeros((9, 9), np.uint8)], DataError, "images of one shape"
    yield [(picture, 1), (picture, None)], DataError, "some items have a label"
    yield [], DataError, "got none"


@pytest.mark.parametrize(("given", "kind", "message"), list(wrong()))
def test_what_is_no_images_is_refused_by_name(
    given: Any, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        ps.run(SETTINGS, data=given, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file, a name, a dictionary"):
        ps.run(3, run_dir=tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"did you mean federation\.rounds"):
        ps.run(SETTINGS, "federation.round=3", run_dir=tmp_path / "run")
    with pytest.raises(CheckpointError):
        ps.open_run(tmp_path / "nothing")
    with pytest.raises(CheckpointError):
        ps.resume(tmp_path / "nothing")

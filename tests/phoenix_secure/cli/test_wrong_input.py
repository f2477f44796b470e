"""Wrong input: one line that names the setting or file and the fix, the documented exit code,
and nothing half-written.
"""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SETTINGS, DATA, CHECKPOINT, STORAGE, TRAINING = 2, 10, 11, 12, 13
TWO_LEVELS = ["model.block_channels=[8,8]", "model.attention=[false,false]"]


def npz(path: str, images: np.ndarray, **more: np.ndarray) -> list[str]:
    np.savez(path, images=images, **more)
    return ["data.name=npz", f"data.path={path}"]


def nan_pixels() -> list[str]:
    images = np.zeros((50, 8, 8, 1), np.float32)
    images[3, 2, 2, 0] = np.nan
    return npz("nan.npz", images)


def pickled() -> list[str]:
    return npz("evil.npz", np.array([{"a": 1}], dtype=object))


def cut_short() -> list[str]:
    overrides = npz("cut.npz", np.zeros((50, 8, 8, 1), np.uint8))
    content = Path("cut.npz").read_bytes()
    Path("cut.npz").write_bytes(content[: len(content) // 2])
    return overrides


def mixed_sizes() -> list[str]:
    Path("mixed").mkdir()
    for number, size in enumerate((8, 8, 12)):
        Image.new("L", (size, size)).save(f"mixed/{number}.png")
    return ["data.name=image-folder", "data.path=mixed"]


def empty_folder() -> list[str]:
    Path("empty").mkdir()
    return ["data.name=image-folder", "data.path=empty"]


def no_picture() -> list[str]:
    Path("text").mkdir()
    Path("text/broken.png").write_text("no picture")
    return ["data.name=image-folder", "data.path=text"]


def without_labels() -> list[str]:
    rng = np.random.default_rng(0)
    return npz("plain.npz", rng.integers(0, 255, (200, 8, 8, 1), dtype=np.uint8))


@pytest.mark.parametrize(
    ("make", "code", "names"),
    [
        (lambda: ["partition.alpha=0"], SETTINGS, ["partition.alpha", "greater than 0"]),
        (lambda: ["federation.round=3"], SETTINGS, ["federation.round", "federation.rounds"]),
        (lambda: ["training.learning_rate=fast"], SETTINGS, ["training.learning_rate"]),
        (
            lambda: ["data.image_size=31", *TWO_LEVELS],
            SETTINGS,
            ["data.image_size", "multiple of 2"],
        ),
        (lambda: ["model.norm_groups=5"], SETTINGS, ["norm_groups"]),
        (lambda: ["device=cuda:99"], SETTINGS, ["cuda:99", "use auto or cpu"]),
        (lambda: ["evaluation.num_images=5"], SETTINGS, ["evaluation.num_images"]),
        (
            lambda: ["partition.num_sites=4"],
            SETTINGS,
            ["at least 5 sites", "partition.num_sites", "secure_aggregation.mode=off"],
        ),
        (
            lambda: ["secure_aggregation.dropout=0.4"],
            SETTINGS,
            ["secure_aggregation.collusion", "dropout"],
        ),
        (lambda: ["secure_aggregation.word_bits=12"], SETTINGS, ["secure_aggregation.word_bits"]),
        (lambda: ["partition.num_sites=900"], DATA, ["partition.num_sites"]),
        (
            lambda: ["partition.num_sites=9", "partition.min_images_per_site=36"],
            DATA,
            ["min_images_per_site"],
        ),
        (lambda: ["data.name=npz", "data.path=absent.npz"], DATA, ["absent.npz"]),
        (lambda: ["data.name=cifar10"], DATA, ["phoenix-secure data fetch cifar10"]),
        (nan_pixels, DATA, ["nan.npz", "NaN"]),
        (pickled, DATA, ["evil.npz"]),
        (cut_short, DATA, ["cut.npz"]),
        (mixed_sizes, DATA, ["mixed", "image_size"]),
        (empty_folder, DATA, ["empty"]),
        (no_picture, DATA, ["broken.png"]),
        (without_labels, SETTINGS, ["partition.scheme", "labelled"]),
        (
            lambda: [*without_labels(), "partition.scheme=iid", "model.class_conditional=true"],
            SETTINGS,
            ["model.class_conditional"],
        ),
    ],
)
def test_run_refuses_before_it_writes(cli, config_file: Path, make, code: int, names) -> None:
    outcome = cli("run", str(config_file), *make(), "--run-dir", "out")
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.strip().splitlines()) == 1
    for name in names:
        assert name in outcome.err
    assert not Path("out").exists()


@pytest.mark.long
def test_divergence_keeps_the_last_good_round(cli, config_file: Path) -> None:
    wild = ["training.optimizer=sgd", "training.grad_clip=null", "training.learning_rate=10"]
    # Each step throws the weights a thousand times as far from the round's start.
    wild += ["training.proximal_mu=100", "training.warmup_steps=0", "training.local_steps=40"]
    wild += ["federation.rounds=1"]
    wild += ["secure_aggregation.max_attempts=1"]
    outcome = cli("run", str(config_file), *wild, "--run-dir", "out")
    assert outcome.code == TRAINING
    assert "lower training.learning_rate" in outcome.err
    assert Path("out/checkpoints/round-000000.safetensors").exists()


def test_corrupt_checkpoint_is_named_with_the_way_out(cli, finished_run: Path) -> None:
    newest = finished_run / "checkpoints" / "round-000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    outcome = cli("resume", str(finished_run))
    assert outcome.code == CHECKPOINT
    assert "round-000003.safetensors is damaged" in outcome.err
    assert "round-000002" in outcome.err
    newest.unlink()
    assert cli("resume", str(finished_run)).code == 0


@pytest.mark.parametrize("command", ["resume", "sample", "evaluate"])
def test_folder_that_is_no_run_is_refused(cli, command: str) -> None:
    Path("nothing").mkdir()
    outcome = cli(command, "nothing")
    assert outcome.code in (SETTINGS, CHECKPOINT)
    assert "nothing" in outcome.err


def test_run_folder_is_never_overwritten_unasked(
    cli, config_file: Path, finished_run: Path
) -> None:
    outcome = cli("run", str(config_file), "--run-dir", str(finished_run))
    assert outcome.code == SETTINGS
    assert "resume" in outcome.err
    assert "--overwrite" in outcome.err


def test_full_disk_is_one_line_and_the_last_checkpoint_stays(
    cli, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint meets a full disk, as the system would report it."""
    original = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if "round-000002" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    outcome = cli("run", str(config_file), "--run-dir", "out")
    assert outcome.code == STORAGE
    assert "disk full" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    kept = sorted(p.name for p in Path("out/checkpoints").iterdir())
    assert kept == ["round-000000.safetensors", "round-000001.safetensors"]
    monkeypatch.undo()


def test_unknown_reference_and_wrong_size_are_named(cli, finished_run: Path) -> None:
    outcome = cli("evaluate", str(finished_run), "--reference", "mnist-5k", "--num", "100")
    assert outcome.code == DATA
    assert "same size and channels" in outcome.err
    outcome = cli("evaluate", str(finished_run), "--reference", "absent-folder")
    assert outcome.code == DATA
    assert "absent-folder" in outcome.err


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("--rounds=3", "settings have no dashes: federation.rounds=3"),
        ("--epsilon", "settings have no dashes: privacy.epsilon=..."),
        ("--epochs 2", "settings have no dashes: training.local_epochs=2"),
        ("--seed 3", "settings have no dashes: seed=3"),
        ("--federation.rounds 3", "settings have no dashes: federation.rounds=3"),
        ("--batch-size=8", "training.batch_size=8 or sampling.batch_size=8"),
        ("--nonsense", "`phoenix-secure config explain` shows all"),
        ("--output-dir x", "the folder of all results is --run-dir"),
        ("--config x", "phoenix-secure run FILE"),
    ],
)
def test_a_setting_with_dashes_is_answered_with_the_setting(
    cli, config_file: Path, option: str, setting: str
) -> None:
    outcome = cli("run", str(config_file), *option.split())
    assert outcome.code == SETTINGS
    assert outcome.err.rstrip().endswith(setting)
    assert "Did you mean" not in outcome.err


def test_commands_of_other_tools_are_answered_and_a_sweep_has_no_settings_to_change(cli) -> None:
    outcome = cli("train", "a.yaml")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (2, "that is: phoenix-secure run")
    outcome = cli("sweep", "a.yaml", "--seed", "3")
    assert outcome.code == SETTINGS
    assert "settings have no dashes" not in outcome.err


@pytest.mark.parametrize("arguments", [["runn"], ["run"], ["sample", "x", "--num", "0"]])
def test_usage_errors_leave_with_2(cli, arguments: list[str]) -> None:
    assert cli(*arguments).code == SETTINGS

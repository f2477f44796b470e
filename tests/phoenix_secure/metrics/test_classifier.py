"""The classifier learns real digits, repeats itself, and survives hostile files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import ImageSet, to_unit_range
from phoenix_secure.errors import CheckpointError, DataError, PhoenixError
from phoenix_secure.metrics.classifier import Classifier, load_classifier, train_classifier

CPU = torch.device("cpu")


def train(*, seed: int, num: int = 300, epochs: int = 1) -> Classifier:
    digits = load_digits()
    assert digits.labels is not None
    return train_classifier(
        to_unit_range(digits.images[:num]),
        labels=digits.labels[:num],
        num_classes=10,
        dataset="digits",
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
        epochs=epochs,
    )


def test_unseen_digits_are_recognised_and_features_named_after_the_set(
    classifier: Classifier, digits: ImageSet, pixels: np.ndarray
) -> None:
    assert digits.labels is not None
    assert classifier.accuracy(pixels[:2000], labels=digits.labels[:2000]) > 0.95
    features = classifier(pixels[:7])
    assert (classifier.name, classifier.dim) == ("cnn-mnist-5k", 128)
    assert (features.shape, features.dtype) == ((7, 128), np.float32)


@pytest.mark.long
def test_digits_of_eight_pixels_are_learnt_too() -> None:
    digits = load_digits()
    assert digits.labels is not None
    classifier = train(seed=1, num=1400, epochs=8)
    accuracy = classifier.accuracy(to_unit_range(digits.images[1400:]), labels=digits.labels[1400:])
    assert accuracy > 0.93


def test_features_depend_on_the_image_alone(classifier: Classifier, pixels: np.ndarray) -> None:
    together = classifier(pixels[:300])
    np.testing.assert_allclose(classifier(pixels[7:8])[0], together[7], rtol=1e-4, atol=1e-4)
    assert (classifier(pixels[:300]) == together).all()


def test_same_seed_same_network_and_no_global_randomness() -> None:
    before = torch.random.get_rng_state()
    images = to_unit_range(load_digits().images[:20])
    first, again, other = (train(seed=seed)(images) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not np.allclose(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saved_classifier_comes_back_bit_for_bit(tmp_path: Path) -> None:
    classifier = train(seed=1)
    classifier.save(tmp_path / "cnn.safetensors")
    images = to_unit_range(load_digits().images[:20])
    again = load_classifier(tmp_path / "cnn.safetensors", device=CPU)
    assert (again(images) == classifier(images)).all()
    assert (again.probabilities(images) == classifier.probabilities(images)).all()
    assert (again.name, again.num_classes) == ("cnn-digits", 10)


def test_probabilities_are_distributions(classifier: Classifier, pixels: np.ndarray) -> None:
    found = classifier.probabilities(pixels[:50])
    assert found.shape == (50, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_images_of_other_channels_are_refused(classifier: Classifier) -> None:
    with pytest.raises(DataError, match="3 channels and cnn-mnist-5k was trained on 1"):
        classifier(np.zeros((2, 3, 28, 28), dtype=np.float32))


@pytest.mark.parametrize(
    "labels", [np.zeros(9), np.zeros(10), np.zeros(10, int), np.arange(10), np.arange(10) - 1]
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="labels"):
        train_classifier(
            np.zeros((10, 1, 8, 8), dtype=np.float32),
            labels=labels,
            num_classes=9,
            dataset="none",
            generator=torch.Generator().manual_seed(1),
            device=CPU,
        )


def test_missing_truncated_and_foreign_files_are_one_line_errors(tmp_path: Path) -> None:
    path = tmp_path / "cnn.safetensors"
    train(seed=1).save(path)
    whole = path.read_bytes()
    state = load_file(path)
    files: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "hostile": b"\xff" * 64,
        "pickle": b"\x80\x04cos\nsystem\n",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    about = {"format": "phoenix-secure/cnn-classifier/v1", "channels": "1", "num_classes": "10"}
    save_file(state, tmp_path / "undescribed")
    save_file(state, tmp_path / "huge", metadata={**about, "num_classes": "99999999999999"})
    save_file(state, tmp_path / "signed", metadata={**about, "channels": "-1"})
    save_file(state, tmp_path / "other classes", metadata={**about, "num_classes": "7"})
    broken = {**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}
    save_file(broken, tmp_path / "nan", metadata=about)
    others = ("undescribed", "huge", "signed", "other classes", "nan")
    for name in (*files, *others):
        with pytest.raises(CheckpointError, match="train the classifier again") as caught:
            load_classifier(tmp_path / name, device=CPU)
        assert isinstance(caught.value, PhoenixError)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)

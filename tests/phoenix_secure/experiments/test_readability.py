"""Readability: a judge of real digits is sure of those, not of noise; it is kept and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.data.images import to_unit_range
from phoenix_secure.errors import DataError
from phoenix_secure.experiments.readability import load_judge, readability
from phoenix_secure.metrics.classifier import Classifier, train_classifier

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    digits = load_digits()
    assert digits.labels is not None
    return train_classifier(
        to_unit_range(digits.images[:1200]),
        labels=digits.labels[:1200],
        num_classes=10,
        dataset="digits",
        generator=torch.Generator().manual_seed(0),
        device=CPU,
        epochs=4,
    )


def test_real_digits_are_readable_and_blends_of_two_are_less_so(classifier: Classifier) -> None:
    digits = load_digits()
    assert digits.labels is not None
    real = to_unit_range(digits.images[1200:1700])
    found = readability(real, classifier)
    blended = readability((real + real[::-1]) / 2, classifier)

    assert found.share > 0.8
    assert blended.share < found.share - 0.2
    assert found.missing == ()
    assert sum(found.histogram) == found.num_images == 500
    ones = readability(real[digits.labels[1200:1700] == 1], classifier)
    assert len(ones.missing) >= 5


def test_a_kept_judge_is_read_again_and_a_damaged_one_is_trained_again(
    classifier: Classifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "judge-mnist.safetensors")
    about = {"accuracy": 0.99, "share": 0.96, "histogram": [1] * 10, "images": 10}
    (tmp_path / "judge-mnist.json").write_text(json.dumps(about))
    judge = load_judge("mnist", cache_dir=tmp_path, device=CPU)
    real = to_unit_range(load_digits().images[:20])

    assert judge.accuracy == 0.99
    assert judge.real.share == 0.96
    assert np.array_equal(judge.classifier.probabilities(real), classifier.probabilities(real))
    (tmp_path / "judge-mnist.json").write_text("{")
    with pytest.raises(DataError, match="data fetch mnist"):
        load_judge("mnist", cache_dir=tmp_path, device=CPU)

"""A sweep of seconds on real images: handwritten digits of 8x8 pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

TINY = """
settings:
  data.name: digits
  data.image_size: 8
  model.class_conditional: true
  model.preset: tiny-s2d
  federation.rounds: 6
  training.local_steps: 4
  training.batch_size: 16
  evaluation.num_images: 100
  sampling.num_steps: 4
  output.samples_every_rounds: 0
axes:
  strategy: {fedavg: {}}
  seed: [0, 1]
points:
  diverges: {training.learning_rate: 10.0, training.optimizer: sgd, training.grad_clip: null}
downstream: {num_images: 100, epochs: 1}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(TINY)
    return file

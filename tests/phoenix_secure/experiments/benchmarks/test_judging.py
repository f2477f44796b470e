"""Which images a judge of a published set may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_secure.data.sources import load_images
from phoenix_secure.experiments.benchmarks.judging import has_own_size


@pytest.mark.parametrize(("size", "own"), [(None, True), (8, True), (16, False)])
def test_a_judge_is_for_images_of_the_set_s_own_size(
    size: int | None, own: bool, tmp_path: Path
) -> None:
    assert has_own_size(load_images("digits", image_size=size, cache_dir=tmp_path)) is own

"""Sweep files and their points."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.points import expand, shard_of
from phoenix_secure.experiments.spec import SweepSpec, load_spec
from phoenix_secure.federation.secagg.privacy_plan import check_images

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = [path for path in sorted(CONFIGS.glob("sweep_*.yaml")) if path.stem != "sweep_base"]


def spec_of(tmp_path: Path, text: str) -> SweepSpec:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return load_spec(file)


GRID = """
settings: {federation.rounds: 3}
axes:
  privacy:
    none: {}
    epsilon 1: {privacy.unit: record, privacy.epsilon: 1}
  model.norm_groups: [4, 8]
  seed: [0, 1, 2]
points:
  wide: {training.batch_size: 7, seed: 7}
"""


def test_grid_is_every_combination_then_the_extra_points(tmp_path: Path) -> None:
    points = expand(spec_of(tmp_path, GRID), folder=tmp_path)
    assert len(points) == 2 * 2 * 3 + 1
    assert points[0].labels == {"privacy": "none", "model.norm_groups": "4", "seed": "0"}
    assert points[-2].config.privacy.epsilon == 1
    assert points[-2].config.seed == 2
    assert points[-1].config.training.batch_size == 7
    assert all(point.config.federation.rounds == 3 for point in points)
    assert len({point.name for point in points}) == len({point.digest for point in points}) == 13


def test_a_key_given_twice_is_refused_by_line(tmp_path: Path) -> None:
    twice = "axes:\n  seed: [1]\npoints:\n  a: {privacy.epsilon: 1,\n      privacy.epsilon: 100}\n"
    with pytest.raises(ConfigError, match=r"points\.a\.privacy\.epsilon twice, in lines 4 and 5"):
        spec_of(tmp_path, twice)


def test_base_file_is_read_beside_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("federation: {rounds: 9}\n")
    points = expand(spec_of(tmp_path, "base: base.yaml\naxes: {seed: [1]}"), folder=tmp_path)
    assert points[0].config.federation.rounds == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("axis: {seed: [1]}", "did you mean axes?"),
        ("settings: {}", "nothing to run"),
        ("axes: {seed: []}", "axis seed has no value"),
        ("axes: {seed: [1, 1]}", "names a value twice"),
        ("audit: deep\naxes: {seed: [1]}", "audit"),
        ("- 1", "must hold axes"),
        ("axes: {seed: [1", "not valid YAML"),
    ],
)
def test_wrong_sweep_files_are_explained(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        spec_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("axes: {federation.round: [1]}", "did you mean federation.rounds"),
        ("axes: {federation.rounds: [0]}", "point .federation.rounds 0.: .*rounds"),
        ("axes: {a: {x: {seed: 1}}, b: {y: {seed: 2}}}", "sets seed, which another axis sets too"),
        ("axes: {a: {'x y': {seed: 1}, 'x-y': {seed: 2}}}", "two points are called a-x-y"),
        ("base: none.yaml\naxes: {seed: [1]}", "no settings file"),
    ],
)
def test_wrong_points_are_named_before_anything_runs(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        expand(spec_of(tmp_path, text), folder=tmp_path)


@given(num_shards=st.integers(1, 20))
def test_shards_are_disjoint_and_cover_all_points(num_shards: int) -> None:
    points = list(range(13))
    shares = [shard_of(points, f"{i + 1}/{num_shards}") for i in range(num_shards)]  # type: ignore[arg-type,type-var]
    assert sorted(point for share in shares for point in share) == points
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", ""])
def test_wrong_shards_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must look like"):
        shard_of([], text)


def test_long_labels_give_short_unique_names(tmp_path: Path) -> None:
    changes = ", ".join(f"{'very ' * 30}{i}: {{seed: {i}}}" for i in range(3))
    points = expand(spec_of(tmp_path, f"axes: {{kind: {{{changes}}}}}"), folder=tmp_path)
    assert len({point.name for point in points}) == 3
    assert max(len(point.name) for point in points) <= 80


def test_curves_are_told_apart_by_what_is_neither_seed_nor_privacy(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        "axes: {privacy: {a: {privacy.unit: record, privacy.epsilon: 1}}, partition.alpha: [1.0], "
        "how: {x: {federation.server_optimizer: fedavgm}}, seed: [0]}",
    )
    assert spec.curve_axes == ["partition.alpha", "how"]
    assert spec.skew_axis == "partition.alpha"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_expands_to_points_that_can_run(file: Path) -> None:
    points = expand(load_spec(file), folder=CONFIGS)
    assert len({point.name for point in points}) == len(points) > 1
    for point in points:
        assert point.config.data.name in ("fashion-mnist", "mnist")
        check_images(point.config, {"site-01": 4000})


def test_there_are_shipped_sweeps() -> None:
    assert SHIPPED

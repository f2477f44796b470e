"""Settings: files, overrides, and errors that name the setting and the fix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotated_types import BaseMetadata
from pydantic import BaseModel, ValidationError

from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import (
    dump_config,
    find_config,
    load_config,
    load_written,
    parse_config,
    require_once,
    shipped_configs,
)
from phoenix_secure.errors import CheckpointError, ConfigError

# Sweeps (sweep_*.yaml but for their common base) have a form of their own: see test_shipped_sweeps.
CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    if not path.name.startswith("sweep_") or path.name == "sweep_base.yaml"
]


def all_fields(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    fields = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields += all_fields(kind, f"{prefix}{name}.")
        else:
            fields.append((prefix + name, field))
    return fields


@pytest.mark.parametrize(("name", "field"), all_fields(RunConfig))
def test_every_field_has_a_unit_a_sentence_and_bounds(name: str, field: Any) -> None:
    assert field.description is not None, name
    assert field.description.startswith("["), f"{name} names no unit"
    assert field.description.endswith("."), f"{name} has no sentence"
    is_number = re.search(r"\b(int|float)\b", str(field.annotation))
    if is_number and "tuple" not in str(field.annotation):
        assert any(isinstance(m, BaseMetadata) for m in field.metadata) or "Literal" in str(
            field.annotation
        ), f"{name} has no bounds"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_file_is_valid_and_survives_a_round_trip(path: Path) -> None:
    config = load_config(path)
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_override_reads_its_value_as_yaml() -> None:
    config = load_config(None, ["training.local_steps=null", "training.local_epochs=2", "seed=9"])
    assert config.training.local_steps is None
    assert (config.training.local_epochs, config.seed) == (2.0, 9)


def test_override_wins_over_file_and_leaves_its_mapping_alone() -> None:
    values = {"federation": {"rounds": 4}}
    assert parse_config(values, ["federation.rounds=5"]).federation.rounds == 5
    assert values == {"federation": {"rounds": 4}}


def test_preset_fills_in_and_explicit_fields_win() -> None:
    model = load_config(None, ["model.preset=cifar10", "model.layers_per_block=1"]).model
    assert model.block_channels == (128, 256, 256, 256)
    assert model.layers_per_block == 1


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        RunConfig().federation.rounds = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["federation.round=3"], "did you mean federation.rounds?"),
        (["fedration.rounds=3"], "did you mean federation.rounds?"),
        (["partition.alpha=0"], "partition.alpha: Input should be greater than 0"),
        (["federation.rounds=.nan"], "federation.rounds"),
        (["training.learning_rate=.inf"], "training.learning_rate"),
        (["model.preset=huge"], "'tiny'"),
        (["data.name=mnist5k"], "'mnist-5k'"),
        (["data.name=npz"], "set data.path"),
        (["data.held_out=0.5", "data.reference=0.45"], "less than a tenth"),
        (["training.local_epochs=2"], "exactly one of local_steps and local_epochs"),
        (["model.norm_groups=7"], "does not divide the width 16"),
        (["model.attention=[true]"], "attention has 1 entries"),
        (["diffusion.prediction=edm", "diffusion.min_snr_gamma=5"], "min_snr_gamma"),
        (["diffusion.prediction=edm", "sampling.sampler=ddpm"], "use ddim"),
        (["sampling.num_steps=2000"], "exceeds diffusion.num_timesteps"),
        (["federation.min_sites=9"], "exceeds partition.num_sites"),
        (["evaluation.extractor=inception"], "inception_weights"),
        (["device=tpu"], "device"),
        (["data=3"], "data: this is a section: set data.name"),
        (["rounds"], "must look like section.key=value"),
        (["federation.rounds=true"], "a flag stands where a number belongs (got True)"),
        (["federation.rounds=1:30"], "federation.rounds: Input should be a valid integer"),
        (["federation.rounds=3 #fast"], "got '3 #fast'"),
        (["training.grad_clip=yes"], "training.grad_clip: Input should be a valid number"),
        (["model.block_channels=[true, 16]"], "model.block_channels: a flag stands where"),
        (["seed.x=1", "seed=2", "seed.x=1"], "seed is 2, and no section that holds x"),
        (["federation={rounds: 1, rounds: 2}"], "gives rounds twice"),
        (["data.path='open"], "not valid YAML"),
        (["federation.rounds=[1"], "not valid YAML"),
    ],
)
def test_wrong_setting_is_named_with_its_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"federation: {rounds: 3", "not valid YAML in line"),
        (b"- 1\n- 2\n", "must hold"),
        (b"\xff\xfe\x00", "as text"),
        (b"federation:\n  rounds: -1\n", "federation.rounds"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)


def test_missing_file_is_named_and_shipped_ones_are_offered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.name=mnist is a setting, and .*`demo data.name="):
        find_config("data.name=mnist")
    with pytest.raises(ConfigError, match=r"no settings file .*absent\.yaml.* one of .*demo"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"is a folder"):
        load_config(tmp_path)


def test_a_file_with_the_other_suffix_and_a_shipped_name_spelt_almost_so_are_offered(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.yml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: did you mean .*/mine\.yml\? Or give"):
        load_config(tmp_path / "mine.yaml")
    (tmp_path / "mine.yml").rename(tmp_path / "mine.yaml")
    for name in ("mine.yml", "mine"):
        with pytest.raises(ConfigError, match=r"did you mean .*/mine\.yaml\?"):
            load_config(tmp_path / name)
    for name in ("demoo", "demoo.yaml"):
        with pytest.raises(ConfigError, match=rf"no settings file {name}: did you mean demo\?"):
            load_config(name)


def test_shipped_settings_have_names_and_own_files_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(shipped_configs()) == {
        path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.yaml")
    }
    monkeypatch.chdir(tmp_path)
    assert find_config("demo").name == "demo.yaml"
    Path("demo").mkdir()  # such as a run folder
    assert load_config("demo") == load_config(find_config("demo"))
    Path("dp").write_text("seed: 4")
    assert load_config("dp").seed == 4


@pytest.mark.parametrize(("text", "mode"), [("off", "off"), ("on", "on"), ("'off'", "off")])
def test_bare_on_and_off_mean_themselves(text: str, mode: str, tmp_path: Path) -> None:
    assert load_config(None, [f"secure_aggregation.mode={text}"]).secure_aggregation.mode == mode
    file = tmp_path / "switch.yaml"
    file.write_text(f"secure_aggregation: {{mode: {text}}}\ntraining: {{autocast: off}}\n")
    config = load_config(file)
    assert (config.secure_aggregation.mode, config.training.autocast) == (mode, "off")
    assert parse_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("my scans #2", "my scans #2"),
        ("#2", "#2"),
        ("010", "010"),
        ("NO", "NO"),
        ("1:30", "1:30"),
        ("[draft] a: b", "[draft] a: b"),
        ("*.png", "*.png"),
        ("'quoted #2'", "quoted #2"),
        ('"null"', "null"),
    ],
)
def test_text_on_the_command_line_is_taken_as_it_stands(text: str, path: str) -> None:
    overrides = ["data.name=npz", f"data.path={text}"]
    assert parse_config({}, overrides).data.path == path


def test_null_and_nothing_are_no_text() -> None:
    for text in ("null", ""):
        assert parse_config({"data": {"path": "x"}}, [f"data.path={text}"]).data.path is None


def test_an_override_of_a_section_keeps_what_it_does_not_name() -> None:
    values = {"privacy": {"unit": "record", "epsilon": 8}}
    privacy = parse_config(values, ["privacy={clip_norm: 0.5}"]).privacy
    assert (privacy.unit, privacy.epsilon, privacy.clip_norm) == ("record", 8, 0.5)
    assert values == {"privacy": {"unit": "record", "epsilon": 8}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("privacy: {unit: record}\nprivacy: {clip_norm: 1}", "privacy twice, in lines 1 and 2"),
        ("secure_aggregation:\n  mode: on\n  mode: off", "mode twice, in lines 2 and 3"),
        ("data: {name: 010}", "data.name: YAML reads a number here: write the text in quotes"),
        ("data: {name: true}", "data.name: true and false are flags in YAML"),
        ("device: 1", "write the text in quotes (got 1)"),
        ("seed: true", "seed: a flag stands where a number belongs"),
        ("secure_aggregation: {mode: 0}", "should be 'on' or 'off' (got 0)"),
    ],
)
def test_a_file_that_would_mean_something_else_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert message in str(caught.value)


def test_numbers_and_switches_mean_what_they_say(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text("seed: 010\nsecure_aggregation: {mode: No}\ntraining: {learning_rate: 1e-4}\n")
    config = load_config(file, ["training.horizontal_flip=yes", "data.max_images=1_000"])
    assert (config.seed, config.secure_aggregation.mode) == (10, "off")
    assert (config.training.learning_rate, config.data.max_images) == (1e-4, 1000)
    assert config.training.horizontal_flip is True


@pytest.mark.parametrize("name", ["data.name", "data.path", "device", "model.preset", "x" * 9000])
def test_a_refusal_never_repeats_a_long_value(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"{name}={'long' * 5000}", "data.name=absent"])
    assert len(str(caught.value)) < 800
    with pytest.raises(ConfigError) as caught:
        parse_config({"seed": {"deep": ["long"] * 5000}, "data": ["long"] * 5000})
    assert len(str(caught.value)) < 800


def test_paths_become_absolute_where_a_run_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    given = ["data.name=npz", "data.path=d.npz", "evaluation.inception_weights=~/w.pt"]
    config = load_config(None, given)
    assert config.data.path == str(tmp_path / "d.npz")
    assert config.evaluation.inception_weights == "/home/someone/w.pt"
    assert load_config(None, given, as_written=True).data.path == "d.npz"
    hub = load_config(None, ["data.name=huggingface", "data.path=hf://owner/name"])
    assert hub.data.path == "hf://owner/name"


def test_every_path_among_the_settings_says_that_it_is_one() -> None:
    """``with_absolute_paths`` goes by the unit in a setting's description."""
    named = {name for name, field in all_fields(RunConfig) if "path" in field.description.lower()}
    marked = {n for n, field in all_fields(RunConfig) if field.description.startswith("[path]")}
    paths = {"data.path", "sharing.path", "evaluation.inception_weights", "model.init_from"}
    assert marked == paths
    assert marked <= named


def test_a_file_stands_on_its_base_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("federation: {rounds: 7, min_sites: 2}\nseed: 3\n")
    (tmp_path / "mid.yaml").write_text("base: low.yaml\nfederation: {rounds: 8}\n")
    (tmp_path / "top.yaml").write_text("base: mid.yaml\npartition: {num_sites: 6}\n")
    config = load_config(tmp_path / "top.yaml", ["seed=4"])

    assert (config.federation.rounds, config.federation.min_sites) == (8, 2)
    assert (config.partition.num_sites, config.seed) == (6, 4)
    assert load_config(tmp_path / "top.yaml", ["base=demo"]).release.is_on


def test_epsilon_alone_asks_for_the_private_preset(tmp_path: Path) -> None:
    own = tmp_path / "my.yaml"
    own.write_text("data: {name: digits}\n")
    config = load_config(own, ["privacy.epsilon=1"])

    assert config.release.is_on
    assert (config.privacy.unit, config.privacy.epsilon) == ("record", 1.0)
    assert config.data.name == "digits"
    named = load_config(own, ["privacy.epsilon=1", "privacy.unit=record"])
    assert not named.release.is_on
    assert load_config("private", []).privacy.epsilon == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("base: nowhere\n", "no settings file nowhere"),
        ("base: 3\n", "base 3 must be the name"),
        ("base: my.yaml\n", "stand on each other"),
    ],
)
def test_a_base_that_is_none_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text(content)

    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "my.yaml")


def test_two_values_of_a_setting_are_refused_where_it_protects_and_told_elsewhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.epsilon is given twice, as '1' and '100'"):
        require_once(["privacy.epsilon=1", "seed=2", "privacy.epsilon=100"])
    with pytest.raises(ConfigError, match=r"secure_aggregation\.mode is given twice"):
        require_once(["secure_aggregation.mode=on", "secure_aggregation.mode=off"])
    require_once(["privacy.epsilon=1", "privacy.epsilon=1"])
    assert not caplog.records
    require_once(["seed=1", "seed=2"])
    assert "seed is given twice, as '1' and '2': the last one counts" in caplog.text


def test_what_is_left_of_a_run_s_settings_is_not_the_defaults(tmp_path: Path) -> None:
    """An empty file meant a run without privacy."""
    config = load_config(None, ["privacy.unit=record", "privacy.epsilon=8"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_written(path) == config
    text = path.read_text()
    for left in ("", "null\n", text[: text.index("federation:")], text[: text.index("privacy:")]):
        path.write_text(left)
        with pytest.raises(CheckpointError, match=r"config\.yaml is damaged: the section"):
            load_written(path)
    path.unlink()
    with pytest.raises(ConfigError, match="no settings file"):
        load_written(path)

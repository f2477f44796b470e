"""Commands: what they write and print, for people and for machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.marks.origin import model_digest


@pytest.mark.long
def test_run_prints_a_line_a_round_and_says_what_is_on_and_off(cli, config_file: Path) -> None:
    outcome = cli("run", str(config_file))
    assert outcome.code == 0, outcome.err
    assert "secure aggregation: on, 5 sites a round, 4 must stay, 1 may collude" in outcome.out
    assert outcome.out.count("guarantee: no formal guarantee: differential privacy is off") == 2
    assert [f"round {k}/3" in outcome.out for k in (1, 2, 3)] == [True] * 3
    assert "0 updates clipped, 0 failed attempts" in outcome.out
    assert Path("runs/tiny/model/model_index.json").exists()


def test_run_in_the_clear_is_marked_wherever_one_looks(cli, config_file: Path) -> None:
    outcome = cli("run", str(config_file), "secure_aggregation.mode=off", "federation.rounds=1")
    assert outcome.code == 0, outcome.err
    assert "secure aggregation: OFF - the server sees every site's update" in outcome.out
    assert "secure aggregation was OFF" in outcome.out
    line = json.loads(Path("runs/tiny/metrics.jsonl").read_text())
    assert line["secure_aggregation"] == "off"
    summary = json.loads(Path("runs/tiny/summary.json").read_text())
    assert summary["secure_aggregation"] == "off"
    assert "saw every site's update" in summary["warning"]
    plan = cli("run", str(config_file), "secure_aggregation.mode=off", "--dry-run")
    assert "the server will see every site's update" in plan.out


def test_run_speaks_json_lines(cli, config_file: Path) -> None:
    outcome = cli("run", str(config_file), "federation.rounds=2", "--format", "json")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    a_round = [*["stage"] * 6, "round"]
    assert [e["event"] for e in events] == ["started", *a_round, *a_round, "finished"]
    assert events[0]["secure_aggregation"] == "on"
    assert (events[0]["secure"]["t"], events[0]["secure"]["c"]) == (4, 1)
    assert events[3]["stage"] == "mask"
    assert len(events[3]["answered"]) == 5
    assert events[-1]["rounds"] == 2


def test_dry_run_promises_and_writes_nothing(cli, config_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    outcome = cli("run", str(config_file), "--dry-run", "--format", "json")
    plan = json.loads(outcome.out)
    assert sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts) == before
    assert plan["parameters"] > 10_000
    assert 0 <= plan["bytes_up_per_round"] - 3 * plan["parameters"] * 5 < 500
    assert plan["local_steps_per_round"] == 10
    assert plan["estimated_training_seconds"] > 0
    assert plan["estimated_total_seconds"] > plan["estimated_training_seconds"]
    assert plan["local_steps_per_site_and_round"] == "2"
    assert not [name for name in plan if "evaluat" in name or "noise" in name]
    assert 0 < plan["estimated_aggregation_seconds_per_round"] < 60
    assert (plan["sites_that_must_stay"], plan["word_bits"]) == (4, 24)


@pytest.mark.long
def test_dry_run_tells_minutes_and_the_length_of_the_noise(cli, config_file: Path) -> None:
    private = ["privacy.unit=record", "privacy.noise_multiplier=2", "privacy.sampling_rate=0.1"]
    told = ["evaluation.num_images=100", "data.max_images=1500", "--dry-run"]
    outcome = cli("run", str(config_file), *private, *told)
    assert outcome.code == 0, outcome.err
    rows = {
        cells[1].strip(): cells[2].strip()
        for line in outcome.out.splitlines()
        if len(cells := line.split("│")) == 4
    }
    assert re.fullmatch(r"\d+ s|\d+ min", rows["estimated total"])
    assert re.fullmatch(r"\d+ s|\d+ min", rows["estimated evaluation"])
    assert rows["images evaluated"] == "100"
    plan = json.loads(cli("run", str(config_file), *private, *told, "--format", "json").out)
    most = int(plan["images_per_site"].rpartition(" ")[2])
    expected = 2 * plan["parameters"] ** 0.5 / (0.1 * most)
    assert plan["noise_beside_the_longest_update"] == f"{expected:.3g} times as long"


@pytest.mark.long
def test_dry_run_of_privacy_per_site_compares_the_noise_with_all_sites(
    cli, config_file: Path
) -> None:
    site = ["privacy.unit=site", "privacy.noise_multiplier=1", "privacy.delta=1e-5"]
    wide = ["secure_aggregation.word_bits=32", "--dry-run", "--format", "json"]
    outcome = cli("run", str(config_file), *site, *wide)
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    noise = plan["privacy_noise_multiplier"]
    expected = noise * plan["parameters"] ** 0.5 / 5
    assert plan["noise_beside_the_longest_update"] == f"{expected:.3g} times as long"
    assert "few sites" in plan["privacy_warning_1"]


@pytest.mark.long
def test_finished_run_can_be_resumed_and_changes_nothing(cli, finished_run: Path) -> None:
    before = (finished_run / "checkpoints" / "round-000003.safetensors").read_bytes()
    outcome = cli("resume", str(finished_run))
    assert outcome.code == 0, outcome.err
    after = (finished_run / "checkpoints" / "round-000003.safetensors").read_bytes()
    assert after == before


@pytest.mark.long
def test_run_goes_on_from_another_folder_and_after_it_was_moved(
    cli, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    start.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(start)
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez("d.npz", images=images, labels=np.arange(200) % 4)
    given = ["data.name=npz", "data.path=d.npz", "data.max_images=null", "federation.rounds=1"]
    outcome = cli("run", config_file, *given, "--run-dir", "out")
    assert outcome.code == 0, outcome.err
    moved = (start / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(elsewhere)
    assert cli("resume", moved).code == 0
    # As earlier versions wrote it.
    settings = moved / "config.yaml"
    settings.write_text(settings.read_text().replace(str(start / "d.npz"), "d.npz"))
    outcome = cli("resume", moved)
    assert outcome.code == 10
    assert f"nothing at d.npz below {elsewhere}" in outcome.err
    assert "relative to where the run was started" in outcome.err


def test_sample_repeats_for_a_seed(cli, finished_run: Path) -> None:
    for out, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        outcome = cli(
            *("sample", str(finished_run), "--num", "3", "--seed", seed),
            *("--out", f"{out}.png", "--images-dir", out),
        )
        assert outcome.code == 0, outcome.err
    pictures = [np.asarray(Image.open(f"{name}.png")) for name in "abc"]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert len(list(Path("a").glob("*.png"))) == 3
    with Image.open("a/000000.png") as image:
        assert image.size == (8, 8)


@pytest.mark.long
def test_class_conditional_model_draws_one_class(cli, config_file: Path) -> None:
    assert cli("run", str(config_file), "model.class_conditional=true").code == 0
    options = ("sample", "runs/tiny", "--num", "12", "--layout", "class-folders", "--export")
    exported = cli(*options, "out")
    assert exported.code == 0, exported.err
    shown = cli("data", "show", "image-folder", "--path", "out", "--format", "json")
    assert json.loads(shown.out)["images_per_class"] == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    again = cli(*options, "out")
    assert (again.code, "there already" in again.err) == (2, True)
    outcome = cli("sample", "runs/tiny", "--num", "2", "--class", "7", "--guidance", "2")
    assert outcome.code == 0, outcome.err
    strange = cli("sample", "runs/tiny", "--num", "2", "--guidance", "nan")
    assert (strange.code, "guidance_scale: " in strange.err) == (2, True)
    wrong = cli("sample", "runs/tiny", "--class", "77")
    assert wrong.code == 2
    assert "did you mean '7'" in wrong.err


def test_guidance_is_for_models_with_classes(cli, finished_run: Path) -> None:
    outcome = cli("sample", str(finished_run), "--num", "2", "--guidance", "3")
    assert outcome.code == 2
    assert "--guidance needs a class-conditional model" in outcome.err


def test_a_run_is_passed_on_as_a_monai_bundle(cli, finished_run: Path) -> None:
    made = cli("models", "bundle", str(finished_run), "--format", "json")
    assert made.code == 0, made.err
    bundle = finished_run / "monai-bundle"
    assert json.loads(made.out) == {"bundle": str(bundle)}
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["description"].endswith("no formal guarantee: differential privacy is off")
    assert metadata["model_sha256"] == model_digest(finished_run / "model")
    again = cli("models", "bundle", str(finished_run))
    assert (again.code, "there already" in again.err) == (2, True)
    unnamed = cli("models", "bundle", str(finished_run / "model"))
    assert (unnamed.code, "--out" in unnamed.err) == (2, True)
    assert cli("models", "bundle", str(finished_run / "model"), "--out", "b").code == 0


@pytest.mark.long
def test_evaluate_judges_a_run_a_model_and_a_folder(cli, config_file: Path) -> None:
    settings = ["data.held_out=0.3", "data.reference=0.3", "federation.rounds=1"]
    assert cli("run", str(config_file), *settings).code == 0
    run = cli("evaluate", "runs/tiny", "--num", "100", "--format", "json", "--out", "table.json")
    assert run.code == 0, run.err
    rows = json.loads(run.out)["rows"]
    assert rows["held-out real"]["kid"] < rows["noise"]["kid"]
    assert json.loads(Path("table.json").read_text())["rows"] == rows
    model = cli(
        *("evaluate", "runs/tiny/model", "--reference", "runs/tiny", "--num", "100"),
        *("--format", "json"),
    )
    assert model.code == 0, model.err
    assert cli("sample", "runs/tiny", "--num", "100", "--images-dir", "drawn").code == 0
    folder = cli("evaluate", "drawn", "--reference", "digits", "--num", "100", "--format", "json")
    assert folder.code == 0, folder.err


def test_config_commands_show_settings_and_schema(cli, config_file: Path) -> None:
    shown = cli("config", "show", str(config_file), "federation.rounds=9", "--format", "json")
    assert json.loads(shown.out)["federation"]["rounds"] == 9
    schema = json.loads(cli("config", "schema").out)
    alpha = schema["$defs"]["PartitionConfig"]["properties"]["alpha"]
    assert alpha["exclusiveMinimum"] == 0
    assert "Dirichlet" in alpha["description"]


def test_doctor_finds_this_machine_fit(cli) -> None:
    outcome = cli("doctor", "--format", "json")
    checks = json.loads(outcome.out)
    assert outcome.code == 0, [check for check in checks if check["level"] == "bad"]
    assert {"python", "libraries", "memory", "disk", "weights"} <= {c["name"] for c in checks}


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["resume"], ["sample"], ["evaluate"], ["doctor"], ["config"], ["data"]],
)
def test_every_command_explains_itself(cli, command: list[str]) -> None:
    outcome = cli(*command, "--help")
    assert outcome.code == 0
    assert "Usage" in outcome.out


@pytest.mark.long
@pytest.mark.parametrize("num_pictures", [60, 20])
def test_a_folder_of_few_pictures_is_trained_on_and_judged_on_fewer_where_that_says_something(
    cli, config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, num_pictures: int
) -> None:
    digits = load_digits()
    for number in range(num_pictures):
        file = tmp_path / "pictures" / f"{number % 2}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number, 0]).save(file)
    settings = ["data.name=image-folder", f"data.path={tmp_path / 'pictures'}"]
    settings += ["evaluation.num_images=500", "audit.profile=smoke", "output.report=true"]
    outcome = cli("run", str(config_file), *settings, "data.max_images=null", "federation.rounds=1")
    assert outcome.code == 0, outcome.err
    assert Path("runs/tiny/report/report.html").exists()
    if num_pictures == 60:
        assert "samples are evaluated on 6 images in place of 500" in caplog.text
        assert "6 images in each row: enough to tell a trained model from noise" in outcome.out
        assert json.loads(Path("runs/tiny/evaluation.json").read_text())["num_images"] == 6
        assert "audit of 6 members and 6 non-members" in outcome.out
        assert "use more images" in outcome.out
    else:
        assert "samples are not evaluated: 2 images are held out" in caplog.text
        assert "no audit: 16 members and 2 non-members are too few" in caplog.text
        assert "phoenix-secure audit" not in outcome.out
    assert cli("run", str(config_file), "evaluation.num_images=5").code == 2

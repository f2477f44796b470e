"""Runs on a disk are found, told apart, and never misread."""

import json
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import dump_config, parse_config
from phoenix_secure.errors import CheckpointError
from phoenix_secure.experiments.runs import (
    differing_settings,
    find_runs,
    read_run,
    records_or_reasons,
)
from phoenix_secure.federation.run.summary import RunSummary


def _run(folder: Path, *, rounds_done: int, is_finished: bool, **settings: object) -> Path:
    folder.mkdir(parents=True)
    config = parse_config({"federation": {"rounds": 4}, **settings})
    (folder / "config.yaml").write_text(dump_config(config))
    lines = [{"round_number": n, "loss": 1 / n, "seconds": 1.0} for n in range(1, rounds_done + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if is_finished:
        summary = RunSummary(
            rounds=4,
            sites=5,
            num_parameters=10,
            bytes_down=1,
            bytes_up=2,
            training_seconds=4.0,
            loss=0.25,
            secure=None,
            guarantee={"unit": "record", "epsilon": 3.0, "delta": 1e-5, "adjacency": "add"},
        )
        (folder / "summary.json").write_text(json.dumps(summary.to_dict()))
    return folder


def test_runs_are_found_at_any_depth_a_sweep_has_and_not_inside_one_another(tmp_path: Path) -> None:
    _run(tmp_path / "a", rounds_done=4, is_finished=True)
    _run(tmp_path / "sweep" / "points" / "p" / "run", rounds_done=4, is_finished=True)
    _run(tmp_path / "a" / "copies" / "b", rounds_done=4, is_finished=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)]
    assert found == ["a", "sweep/points/p/run"]


def test_a_run_says_how_far_it_got(tmp_path: Path) -> None:
    finished = read_run(_run(tmp_path / "a", rounds_done=4, is_finished=True))
    assert (finished.status, finished.rounds) == ("finished", (4, 4))
    assert finished.figures()["epsilon"] == 3.0
    stopped = read_run(_run(tmp_path / "b", rounds_done=3, is_finished=False))
    assert (stopped.status, stopped.rounds) == ("unfinished", (3, 4))
    assert stopped.figures()["loss"] == pytest.approx(1 / 3)
    assert stopped.figures()["epsilon"] is None


def test_half_a_last_line_is_no_round_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", rounds_done=2, is_finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"round_number": 3, "lo')
    assert read_run(run).rounds == (2, 4)
    (run / "metrics.jsonl").write_text("[1]\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
        read_run(run)
    ((path, reason),) = records_or_reasons([run])
    assert path == run
    assert isinstance(reason, str)


def test_a_finished_run_says_its_rounds_without_their_lines_and_a_damaged_summary_is_named(
    tmp_path: Path,
) -> None:
    run = _run(tmp_path / "a", rounds_done=4, is_finished=True)
    (run / "metrics.jsonl").unlink()
    assert read_run(run).rounds == (4, 4)
    (run / "summary.json").write_text('{"rounds": 4')
    with pytest.raises(CheckpointError, match=r"no readable summary\.json"):
        read_run(run)


def test_settings_of_other_programs_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "config.yaml").write_text("title: a blog\n")
    _run(tmp_path / "site" / "runs" / "a", rounds_done=1, is_finished=False)
    assert list(find_runs(tmp_path)) == [tmp_path / "site" / "runs" / "a"]
    (tmp_path / "site" / "runs" / "a" / "config.yaml").write_text("{{{")
    listed = phoenix("runs", "list", str(tmp_path)).out.splitlines()
    assert len(listed) == 1
    assert "can't be read" in listed[0]


def test_before_the_first_run_there_is_none_and_a_missing_folder_that_was_named_is_an_error(
    tmp_path: Path,
) -> None:
    assert "no runs in runs" in phoenix("runs", "list", cwd=tmp_path).out
    assert phoenix("runs", "list", "runs", cwd=tmp_path).code == CheckpointError.exit_code


def test_a_run_named_twice_is_compared_with_others_only(tmp_path: Path) -> None:
    run = _run(tmp_path / "a", rounds_done=4, is_finished=True)
    twice = phoenix("compare", str(run), f"{run}/", cwd=tmp_path)
    assert (twice.code, "nothing to be compared" in twice.err) == (2, True)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_run(tmp_path)
    with pytest.raises(CheckpointError, match="not a folder"):
        list(find_runs(tmp_path / "missing"))


def test_only_settings_that_differ_stand_in_a_comparison() -> None:
    configs = [
        RunConfig(),
        parse_config({"training": {"batch_size": 32}, "output": {"num_samples": 4}}),
        parse_config({"training": {"batch_size": 32}, "privacy": {"unit": "record", "epsilon": 2}}),
    ]
    rows = differing_settings(configs)
    assert rows["training.batch_size"] == [str(RunConfig().training.batch_size), "32", "32"]
    assert rows["privacy.epsilon"] == ["null", "null", "2.0"]
    assert not [name for name in rows if name.startswith("output.")]
    assert differing_settings([RunConfig(), RunConfig()]) == {}


def test_compare_takes_runs_and_folders_of_runs(tmp_path: Path) -> None:
    _run(tmp_path / "sweep" / "points" / "p" / "run", rounds_done=4, is_finished=True)
    one = _run(tmp_path / "runs" / "one", rounds_done=4, is_finished=True)
    _run(tmp_path / "runs" / "two", rounds_done=4, is_finished=True, training={"batch_size": 4})
    done = phoenix("compare", str(tmp_path / "runs"), "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [Path(path).name for path in found["runs"]] == ["one", "two"]
    assert found["settings"]["training.batch_size"][1] == "4"
    more = phoenix("compare", str(one), str(tmp_path / "sweep"), "--format", "json")
    assert [Path(path).name for path in json.loads(more.out)["runs"]] == ["one", "run"]
    assert phoenix("compare", str(one)).code == 2
    (tmp_path / "empty").mkdir()
    assert "not a run folder" in phoenix("compare", str(one), str(tmp_path / "empty")).err

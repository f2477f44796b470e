"""``marks check`` on what runs and commands write."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from phoenix_secure.evidence import Event
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.files import sha256_of
from phoenix_secure.marks.marker import Marker
from phoenix_secure.marks.origin import Origin


def test_a_run_s_pictures_and_samples_are_tied_to_its_ledger(
    cli, finished_run: Path, tmp_path: Path
) -> None:
    grid = finished_run / "samples.png"
    (entry,) = read_ledger(ledger_file(finished_run)).of(Event.MARKED)
    assert entry.facts["sha256"] == sha256_of(grid)
    cli("sample", str(finished_run), "--num", "3", "--out", "g.png", "--images-dir", "each")
    for target, count in ((grid, 1), (tmp_path / "g.png", 1), (tmp_path / "each", 3)):
        outcome = cli("marks", "check", target, "--run", str(finished_run), "--format", "json")
        assert outcome.code == 0, outcome.err
        files = json.loads(outcome.out)["files"]
        assert [each["credentials"] for each in files] == ["trusted"] * count
        assert files[0]["run"] == entry.ledger
        assert files[0]["guarantee"] == "no formal guarantee: differential privacy is off"
        assert len(files[0]["model"]) == 64
    # Saved again by another program, it has lost its marks.
    with Image.open(grid) as picture:
        picture.save(tmp_path / "again.png")
    outcome = cli("marks", "check", "again.png")
    assert (outcome.code, outcome.out.split()[0]) == (8, "unmarked")


def test_a_model_without_its_run_is_named_by_its_digest(cli, finished_run: Path) -> None:
    cli("sample", str(finished_run / "model"), "--num", "1", "--out", "g.png")
    outcome = cli("marks", "check", "g.png", "--format", "json")
    (found,) = json.loads(outcome.out)["files"]
    assert (outcome.code, found["credentials"]) == (0, "intact")
    assert (len(found["model"]), "run" in found) == (64, False)
    # The run's key did not sign it.
    assert cli("marks", "check", "g.png", "--run", str(finished_run)).code == 5


def test_certificates_that_the_ledger_does_not_name_are_refused(cli, finished_run: Path) -> None:
    pem = finished_run / "server" / "marks.pem"
    pem.write_bytes(pem.read_bytes() + b"\n")
    outcome = cli("marks", "check", str(finished_run / "samples.png"), "--run", str(finished_run))
    assert (outcome.code, "was replaced" in outcome.err) == (11, True)


def test_marks_are_off_with_a_reason_that_the_ledger_keeps(cli, config_file: Path) -> None:
    reason = "figures of a paper that says so"
    outcome = cli(
        "run", str(config_file), f"output.unmarked_reason={reason}", "federation.rounds=1"
    )
    assert outcome.code == 0, outcome.err
    ledger = read_ledger(ledger_file(Path("runs/tiny")))
    (config,) = ledger.of(Event.CONFIG)
    assert config.facts["settings"]["output"]["unmarked_reason"] == reason
    (entry,) = ledger.of(Event.MARKED)
    assert entry.facts["certificates_sha256"] is None
    assert cli("marks", "check", "runs/tiny/samples.png").code == 8


def test_what_a_stranger_wrote_into_a_picture_stays_on_one_bounded_line(
    cli, tmp_path: Path
) -> None:
    said = "fine \x1b[2J\u202e" + "long " * 200
    marker = Marker(Origin(model="ab" * 32, guarantee=said))
    (tmp_path / "g.png").write_bytes(marker(Image.new("L", (8, 8))))
    outcome = cli("marks", "check", "g.png")
    assert outcome.code == 0
    (line,) = outcome.out.splitlines()
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert "(cut: --format json has all)" in line
    whole = json.loads(cli("marks", "check", "g.png", "--format", "json").out)
    assert whole["files"][0]["guarantee"].count("long") == 200


def test_wrong_targets_are_one_line(cli, tmp_path: Path) -> None:
    assert cli("marks", "check", "away.png").code == 10
    (tmp_path / "a.txt").write_text("x")
    outcome = cli("marks", "check", "a.txt")
    assert (outcome.code, "no picture at a.txt" in outcome.err) == (10, True)
    assert cli("marks", "check", "a.txt", "--run", "away").code == 11

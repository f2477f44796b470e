"""Results and the page, from folders as runs leave them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phoenix_secure.config_file import dump_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.experiments.points import Point, expand
from phoenix_secure.experiments.report import save_plots, save_rows, write_report
from phoenix_secure.experiments.results import gather, to_csv
from phoenix_secure.experiments.spec import SweepSpec
from phoenix_secure.experiments.spent import privacy_spent
from phoenix_secure.experiments.store import PointFolder, SweepFolder
from phoenix_secure.pictures import plain_png, save_grid
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.ledger import PrivacyLedger, Release

EVENT = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=2.0, steps=5)

SPEC = SweepSpec.model_validate(
    {
        "axes": {
            "privacy": {
                "none": {},
                "epsilon 1": {"privacy.unit": "record", "privacy.epsilon": 1},
                "epsilon 3": {"privacy.unit": "record", "privacy.epsilon": 3},
            },
            "seed": [0, 1],
        }
    }
)


def finish(point: Point, folder: SweepFolder, *, epsilon: float | None, kid: float) -> None:
    """What a finished point leaves."""
    files = folder.point(point)
    guarantee = None
    if epsilon is not None:
        guarantee = {
            "unit": "record",
            "adjacency": "add/remove one",
            "epsilon": epsilon,
            "delta": 1e-5,
            "noise_multiplier": 2.0,
        }
    good = {"kid": kid, "kid_std": 0.1, "precision": 0.5, "recall": 0.4}
    summary = {
        "quality": {"rows": {"generated": good, "held-out real": {**good, "kid": 0.01}}},
        "guarantee": guarantee,
        "bytes_up": 10**6,
        "bytes_down": 2 * 10**6,
        "training_seconds": 3.5,
        "loss": 0.1,
        "sites": 5,
        "rounds": 2,
        "num_parameters": 1000,
    }
    files.run.mkdir(parents=True)
    (files.run / "summary.json").write_text(json.dumps(summary))
    save_grid(np.zeros((4, 1, 8, 8), np.uint8), files.run / "samples.png", encode=plain_png)
    about = {"settings_digest": point.digest, "labels": dict(point.labels)}
    files.write("downstream.json", {"accuracy_synthetic": 0.6, "accuracy_real": 0.9})
    files.write("result.json", {**about, "status": "done", "seconds": 4.0})


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[list[Point], SweepFolder]:
    points = expand(SPEC, folder=tmp_path)
    folder = SweepFolder(tmp_path / "out")
    finish(points[0], folder, epsilon=None, kid=1.0)
    finish(points[2], folder, epsilon=0.99, kid=4.0)
    finish(points[3], folder, epsilon=0.99, kid=5.0)
    files = folder.point(points[4])
    files.path.mkdir(parents=True)
    failed = {"status": "failed", "reason": "<b>boom</b>", "settings_digest": points[4].digest}
    files.write("result.json", failed)
    return points, folder


def test_rows_tell_finished_failed_and_missing_points_apart(sweep) -> None:
    points, folder = sweep
    rows = gather(points, folder=folder)
    assert [row["status"] for row in rows] == [
        "done",
        "missing",
        "done",
        "done",
        "failed",
        "missing",
    ]
    assert rows[2]["epsilon"] == 0.99
    assert rows[0]["epsilon"] is None
    assert rows[0]["kid"] == 1.0
    assert rows[4]["kid"] is None
    read = list(csv.DictReader(io.StringIO(to_csv(rows).decode())))
    assert [float(row["kid"]) if row["kid"] else None for row in read] == [
        row["kid"] for row in rows
    ]


def test_result_of_other_settings_is_refused(sweep, tmp_path: Path) -> None:
    points, folder = sweep
    other = SPEC.model_copy(update={"settings": {"federation.rounds": 2}})
    moved = expand(other, folder=tmp_path)
    assert moved[0].name == points[0].name
    with pytest.raises(ConfigError, match="was made with other settings"):
        folder.point(moved[0]).result_of(moved[0])
    assert folder.point(points[0]).result_of(points[0]) is not None


def test_a_private_result_of_an_earlier_version_is_refused_and_a_public_one_kept(sweep) -> None:
    """Same settings, other members and noise: the two would stand in one table as equals."""
    points, folder = sweep
    public, private = points[0], points[2]
    for point in (public, private):
        files = folder.point(point)
        text = json.dumps(point.config.model_dump(mode="json"), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()  # as 0.1.0 wrote it
        about = {**(files.read("result.json") or {}), "settings_digest": digest}
        files.write("point.json", about)
        files.write("result.json", about)
    assert folder.point(public).result_of(public) is not None
    with pytest.raises(ConfigError, match=r"an earlier version.*other members and other noise"):
        folder.point(private).result_of(private)
    rows = gather(points, folder=folder)
    assert [rows[0]["status"], rows[2]["status"]] == ["done", "missing"]
    assert rows[2]["epsilon"] is None
    # The images were trained on all the same.
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    assert sum(total["epsilon"] for total in spent["totals"]) == pytest.approx(1.98)


def test_spent_privacy_adds_up_over_points_and_is_unbounded_without_a_guarantee(sweep) -> None:
    points, folder = sweep
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    (total,) = spent["totals"]
    assert total["epsilon"] == pytest.approx(1.98)
    assert total["delta"] == pytest.approx(2e-5)
    assert spent["points_without_guarantee"] == 1
    assert "unbounded" in spent["words"]
    assert privacy_spent(points, folder=SweepFolder(folder.path / "elsewhere")) is None


def charge(run: Path, *, releases: int, plan: str = "this run") -> None:
    """What two sites of a run that crashed leave: the first has released more."""
    for site, count in (("site-01", releases), ("site-02", 1)):
        (run / "sites" / site).mkdir(parents=True)
        ledger = PrivacyLedger.open(run / "sites" / site / "privacy.jsonl")
        for number in range(1, count + 1):
            release = Release(id=f"{number}", plan=plan, round_number=number, data="d", event=EVENT)
            ledger.charge(release, max_releases=count, total=None)


def test_a_point_that_crashed_counts_with_what_its_ledgers_say(sweep) -> None:
    points, folder = sweep
    charge(folder.point(points[4]).run, releases=3)
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    by_ledger = epsilon_of([EVENT] * 3, delta=1e-5).value
    assert sum(total["epsilon"] for total in spent["totals"]) == pytest.approx(1.98 + by_ledger)
    assert sum(total["not_finished"] for total in spent["totals"]) == 1


def test_a_point_that_the_sweep_no_longer_names_counts(sweep) -> None:
    points, folder = sweep
    before = privacy_spent(points, folder=folder)
    left = [point for point in points if point is not points[3]]
    config = dump_config(points[3].config)
    (folder.point(points[3]).run / "config.yaml").write_text(config)
    assert privacy_spent(left, folder=folder) == before


def test_a_run_without_privacy_that_crashed_is_unbounded(sweep) -> None:
    points, folder = sweep
    folder.point(points[1]).run.mkdir(parents=True)
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    assert spent["points_without_guarantee"] == 2


def test_parts_of_one_data_set_are_that_data_set(tmp_path: Path) -> None:
    axes = {
        "images": {
            "all": {},
            "few": {"data.max_images": 500},
            "other few": {"data.fraction": 0.1, "data.image_size": 32},
            "larger": {"data.name": "mnist"},
            "own": {"data.name": "npz", "data.path": "a.npz"},
            "own part": {"data.name": "npz", "data.path": "b.npz"},
        }
    }
    settings = {"privacy.unit": "record", "privacy.epsilon": 1}
    spec = SweepSpec.model_validate({"settings": settings, "axes": axes})
    points = expand(spec, folder=tmp_path)
    folder = SweepFolder(tmp_path / "out")
    for point in points:
        finish(point, folder, epsilon=0.5, kid=1.0)
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    assert [(total["points"], total["epsilon"]) for total in spent["totals"]] == [
        (2, 1.0),
        (4, 2.0),
    ]


def test_points_whose_guarantees_have_other_conditions_add_up_under_all_of_them(sweep) -> None:
    points, folder = sweep
    finish(points[5], folder, epsilon=0.99, kid=4.0)
    conditions = ("", ", for a fixed partition", ", for a fixed choice of images, and partition")
    for point, condition in zip((points[2], points[3], points[5]), conditions, strict=True):
        files = PointFolder(folder.point(point).run)
        summary = files.read("summary.json")
        assert summary is not None
        summary["guarantee"]["adjacency"] += condition
        files.write("summary.json", summary)
    spent = privacy_spent(points, folder=folder)
    assert spent is not None
    (total,) = spent["totals"]
    assert total["epsilon"] == pytest.approx(3 * 0.99)
    assert total["adjacency"] == (
        "add/remove one, for a fixed choice of images, and partition, for a fixed partition"
    )


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_page_is_self_contained_and_escapes_what_it_shows(sweep) -> None:
    points, folder = sweep
    write_report(points, spec=SPEC, folder=folder)
    text = (folder.path / "report.html").read_text()
    page = _Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed")]
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:"), (tag, attributes)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 + 3  # plots of KID, accuracy and bytes; three sample grids
    assert all(attributes["alt"] for attributes in images)
    assert "&lt;b&gt;boom&lt;/b&gt;" in text
    assert "url(" not in text
    assert "Fewer than three seeds" in text
    assert (folder.path / "report" / "kid.png").exists()
    assert len(json.loads((folder.path / "results.json").read_text())) == 6


def test_plots_and_table_are_written_for_print_too(sweep, tmp_path: Path) -> None:
    points, folder = sweep
    rows = write_report(points, spec=SPEC, folder=folder)
    written = save_plots(rows, spec=SPEC, folder=folder, suffix=".pdf")
    assert {path.with_suffix(".png") for path in written} == set(
        (folder.path / "report").glob("*.png")
    )
    assert all(path.read_bytes().startswith(b"%PDF") for path in written)
    save_rows(rows, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["point"] for row in read] == [row["point"] for row in rows]
    assert [row["epsilon"] for row in read] == [
        "–" if row["epsilon"] is None else f"{row['epsilon']:.4g}" for row in rows
    ]
    with pytest.raises(ConfigError, match=r"\.png, \.pdf, \.svg"):
        save_plots(rows, spec=SPEC, folder=folder, suffix=".gif")


def test_report_is_the_same_every_time(sweep) -> None:
    points, folder = sweep
    write_report(points, spec=SPEC, folder=folder)
    first = {path.name: path.read_bytes() for path in folder.path.glob("*.*")}
    write_report(points, spec=SPEC, folder=folder)
    assert first == {path.name: path.read_bytes() for path in folder.path.glob("*.*")}


@pytest.mark.long
@pytest.mark.browser
def test_the_page_opens_in_a_browser_whole_silent_and_alone(sweep, open_page) -> None:
    points, folder = sweep
    write_report(points, spec=SPEC, folder=folder)
    visit = open_page(folder.path / "report.html")
    assert visit.console == []
    assert visit.requests == []
    with Image.open(visit.screenshot) as picture:
        shades = set(picture.convert("L").resize((100, 200)).tobytes())
    assert len(shades) > 20  # not an empty page

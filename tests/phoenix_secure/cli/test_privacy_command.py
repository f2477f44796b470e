"""`privacy`: noise for a budget, epsilon of a noise, and what ledgers hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.ledger import PrivacyLedger, Release


@pytest.mark.long
def test_noise_and_epsilon_are_inverse_to_each_other(cli) -> None:
    budget = ["--rate", "0.05", "--steps", "40", "--format", "json"]
    found = json.loads(cli("privacy", "noise", "--epsilon", "4", *budget).out)
    assert 3.9 < found["epsilon"] <= 4
    again = cli("privacy", "epsilon", "--noise", str(found["noise_multiplier"]), *budget)
    assert json.loads(again.out)["epsilon"] == pytest.approx(found["epsilon"])
    assert {"unit", "adjacency", "delta"} <= found.keys()
    assert found["replace_one"]["epsilon"] > found["epsilon"]
    text = cli("privacy", "epsilon", "--noise", "1", "--rate", "0.05", "--steps", "40").out
    assert "per image (add or remove one)" in text
    assert "pld (dp-accounting)" in text
    assert "where one is replaced" in text


NOISE = {"--epsilon": "1", "--rate": "0.1", "--steps": "5"}
EPSILON = {"--noise": "1", "--rate": "0.1", "--steps": "5"}
DELTA = "expected 1e-12 <= delta < 0.01"


@pytest.mark.parametrize(
    ("command", "option", "value", "message"),
    [
        ("noise", "--epsilon", "0", "--epsilon 0: expected 0 < epsilon <= 1000: raise it"),
        ("noise", "--epsilon", "-1", "expected 0 < epsilon <= 1000: raise it"),
        ("noise", "--epsilon", "nan", "expected 0 < epsilon <= 1000"),
        ("noise", "--epsilon", "1e9", "lower it: more promises nothing"),
        # A larger delta needs less noise, so that no advice on noise helps.
        ("noise", "--delta", "0.1", f"--delta 0.1: {DELTA}: lower it, to 1e-5 or less"),
        ("noise", "--delta", "0.01", f"{DELTA}: lower it, to 1e-5 or less"),
        ("noise", "--delta", "0.999999", f"{DELTA}: lower it, to 1e-5 or less"),
        ("noise", "--delta", "1", f"{DELTA}: lower it, to 1e-5 or less"),
        ("noise", "--delta", "inf", f"{DELTA}: lower it, to 1e-5 or less"),
        ("noise", "--delta", "0", f"{DELTA}: raise it, to 1/images^2 or so"),
        ("noise", "--delta", "-1", f"{DELTA}: raise it, to 1/images^2 or so"),
        ("noise", "--delta", "1e-13", f"{DELTA}: raise it, to 1/images^2 or so"),
        ("noise", "--rate", "0", "expected 1e-09 <= rate <= 1: raise it, to training.batch_size"),
        ("noise", "--rate", "1e-12", "expected 1e-09 <= rate <= 1: raise it"),
        ("noise", "--rate", "1.5", "expected 1e-09 <= rate <= 1: lower it: at 1 every image"),
        ("noise", "--steps", "0", "expected 1 <= steps <= 1e12: set local steps x rounds"),
        ("noise", "--steps", "-3", "expected 1 <= steps <= 1e12"),
        ("noise", "--steps", "1" + 30 * "0", "expected 1 <= steps <= 1e12"),
        ("epsilon", "--steps", "0", "--steps 0"),
        ("epsilon", "--rate", "1e-12", "expected 1e-09 <= rate <= 1"),
        ("epsilon", "--noise", "nan", "--noise nan: expected 0.001 <= noise <= 1e9"),
        ("epsilon", "--noise", "0", "raise it: less hides nothing"),
        ("epsilon", "--noise", "1e-300", "raise it: less hides nothing"),
        ("epsilon", "--noise", "inf", "expected 0.001 <= noise <= 1e9: lower it"),
    ],
)
def test_numbers_that_mean_nothing_are_named_with_the_fix(
    cli, command: str, option: str, value: str, message: str
) -> None:
    options = (NOISE if command == "noise" else EPSILON) | {option: value}
    outcome = cli("privacy", command, *(part for pair in options.items() for part in pair))
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", ["1e-9", "1e-300"])
def test_a_budget_that_no_noise_keeps_is_refused_and_one_that_delta_covers_is_not(
    cli, epsilon: str
) -> None:
    budget = ["--epsilon", epsilon, "--steps", "5"]
    refused = cli("privacy", "noise", *budget, "--rate", "1")
    assert refused.code == 2
    named = re.search(r"above 10,000: raise epsilon to (\S+), or", refused.err)
    assert named is not None
    assert cli("privacy", "noise", "--epsilon", named[1], *budget[2:], "--rate", "1").code == 0
    # Whatever is seen of an image that is sampled so rarely has a chance below delta.
    found = json.loads(cli("privacy", "noise", *budget, "--rate", "0.01", "--format", "json").out)
    assert found["epsilon"] == 0
    assert found["noise_multiplier"] < 1e4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "holds no privacy.jsonl"),
        ([".", "--delta", "1"], f"--delta 1: {DELTA}: lower it"),
        ([".", "--delta", "1e-300"], f"--delta 1e-300: {DELTA}: raise it"),
    ],
)
def test_ledgers_that_cannot_be_read_or_composed_are_named(
    cli, arguments: list[str], message: str
) -> None:
    outcome = cli("privacy", "ledger", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_rate_of_one_and_a_single_step_are_the_gaussian_mechanism(cli) -> None:
    options = ["--rate", "1", "--steps", "1", "--format", "json"]
    found = json.loads(cli("privacy", "noise", "--epsilon", "1", *options).out)
    # Balle and Wang (2018), Theorem 8, at epsilon 1 and delta 1e-5.
    assert found["noise_multiplier"] == pytest.approx(3.7304, rel=0.003)


@pytest.mark.slow
def test_nearly_as_much_noise_as_there_may_be_is_found_although_guesses_go_beyond_it(cli) -> None:
    options = ["--rate", "1", "--steps", "1", "--format", "json"]
    found = json.loads(cli("privacy", "noise", "--epsilon", "1.1e-4", *options).out)
    assert 8500 < found["noise_multiplier"] < 1e4


def test_ledgers_are_shown_run_by_run_and_in_all(cli, tmp_path: Path) -> None:
    for site, runs in (("a", ["one", "two"]), ("b", ["one"])):
        (tmp_path / site).mkdir()
        ledger = PrivacyLedger.open(tmp_path / site / "privacy.jsonl")
        for run in runs:
            event = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=5)
            ledger.charge(
                Release(id=run, plan=run, round_number=1, data="d", event=event),
                max_releases=1,
                total=None,
            )
    outcome = cli("privacy", "ledger", str(tmp_path), "--format", "json")
    rows = {(row["site"], row["run"]): row for row in json.loads(outcome.out)["ledgers"]}
    assert set(rows) == {("a", "one"), ("a", "two"), ("a", "all runs"), ("b", "one")}
    one, both = rows["a", "one"]["epsilon"], rows["a", "all runs"]["epsilon"]
    assert one == rows["b", "one"]["epsilon"] < both < 2 * one
    assert all(row["epsilon"] < row["epsilon_replace_one"] for row in rows.values())
    table = cli("privacy", "ledger", str(tmp_path)).out
    assert "all runs" in table
    assert "where one is replaced" in table


@pytest.fixture
def three_sites(tmp_path: Path) -> list[Path]:
    """Real digits at three sites; two of them at the first and the last."""
    digits = load_digits().images[:30]
    parts = {"a": digits[:10], "b": digits[10:20], "c": np.concatenate([digits[20:], digits[:2]])}
    for name, part in parts.items():
        np.savez(tmp_path / f"{name}.npz", images=part)
    return [tmp_path / f"{name}.npz" for name in parts]


def test_shared_images_are_counted_from_keyed_hashes(
    cli, three_sites: list[Path], tmp_path: Path
) -> None:
    key, hashes = tmp_path / "owners.key", []
    for images in three_sites:
        hashes.append(str(images.with_suffix(".hashes")))
        assert cli("privacy", "hash", str(images), "--key", str(key), "--out", hashes[-1]).code == 0
    assert key.stat().st_mode & 0o077 == 0
    assert cli("privacy", "overlap", *hashes[:2]).code == 0
    found = cli("privacy", "overlap", *hashes, "--format", "json")
    assert found.code == 9
    assert json.loads(found.out) == {"shared": 2, "images": [10, 10, 12]}
    assert "2 images are at more than one site" in cli("privacy", "overlap", *hashes).out


def test_persons_at_two_sites_are_found_by_their_identifiers(cli, tmp_path: Path) -> None:
    """Other images of one person, under one key; neither name nor number leaves in the clear."""
    key, hashes, digits = tmp_path / "owners.key", [], load_digits().images
    for site, people in enumerate((["ann", "ann", "bob"], ["cem", "dora", "dora"], ["bob", "eve"])):
        images = tmp_path / f"{site}.npz"
        first = 10 * site
        np.savez(images, images=digits[first : first + len(people)], patient=np.array(people))
        hashes.append(str(tmp_path / f"{site}.hashes"))
        made = cli(
            *("privacy", "hash", str(images), "--key", str(key), "--out", hashes[-1]),
            *("--group", "array:patient"),
        )
        assert made.code == 0, made.err
        assert "2 persons in" in made.out
    assert cli("privacy", "overlap", *hashes[:2]).code == 0
    assert "no person of 2 sites" in cli("privacy", "overlap", *hashes[:2]).out
    found = cli("privacy", "overlap", *hashes, "--format", "json")
    assert found.code == 9
    assert json.loads(found.out) == {"shared": 1, "persons": [2, 2, 2]}
    assert "bob" not in Path(hashes[0]).read_text()

    of_images = str(tmp_path / "images.hashes")
    assert cli(*("privacy", "hash", str(images)), "--key", str(key), "--out", of_images).code == 0
    mixed = cli("privacy", "overlap", hashes[0], of_images)
    assert mixed.code == 2
    assert "some of images and some of persons" in " ".join(mixed.err.split())
    wrong = cli(
        *("privacy", "hash", str(images), "--key", str(tmp_path / "new.key"), "--out", "x"),
        *("--group", "patient"),
    )
    assert wrong.code == 2
    assert not (tmp_path / "new.key").exists()


def test_deep_images_are_hashed_as_the_window_maps_them(
    cli, three_sites: list[Path], tmp_path: Path
) -> None:
    with np.load(three_sites[0]) as first:
        deep = first["images"].astype(np.uint16) * 16
    np.savez(tmp_path / "deep.npz", images=deep)
    key, out = str(tmp_path / "k"), [str(tmp_path / name) for name in ("a.hashes", "deep.hashes")]
    assert cli("privacy", "hash", str(three_sites[0]), "--key", key, "--out", out[0]).code == 0
    hashing = ("privacy", "hash", str(tmp_path / "deep.npz"), "--key", key, "--out", out[1])
    assert cli(*hashing).code == 10
    assert cli(*hashing, "--window", "0", "4080").code == 0
    assert json.loads(cli("privacy", "overlap", *out, "--format", "json").out)["shared"] == 10


def test_another_key_gives_other_hashes_and_their_order_tells_nothing(
    cli, three_sites: list[Path], tmp_path: Path
) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for number, file in enumerate(files):
        key = str(tmp_path / f"{number}.key")
        cli("privacy", "hash", str(three_sites[0]), "--key", key, "--out", str(file))
    one, two = (file.read_text().splitlines()[1:] for file in files)
    assert not set(one) & set(two)
    assert one == sorted(one)
    # Compared all the same, they would always say that nothing is shared.
    outcome = cli("privacy", "overlap", *map(str, files))
    assert outcome.code == 2
    assert "different keys, image sizes or channels" in outcome.err
    assert files[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hash", "missing", "--key", "k", "--out", "o"], "nothing at missing"),
        (["overlap", "one"], "at least two sites"),
        (["overlap", "one", "two"], "cannot read one"),
        (["overlap", __file__, __file__], "is no file of `privacy hash`"),
    ],
)
def test_what_cannot_be_compared_is_named(cli, arguments: list[str], message: str) -> None:
    outcome = cli("privacy", *arguments)
    assert outcome.code == 2
    assert message in outcome.err

"""deploy propose, site publish, review, approve, reject, from the command line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable

import pytest
import yaml

from command_line import phoenix
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.run.plan import Plan

pytestmark = pytest.mark.long

SITE = "f/sites/site-01"
SHAPE = (
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "secure_aggregation.max_images=64",
)


@pytest.fixture
def cli(governed) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        outcome = phoenix(*arguments, cwd=governed.root, typed=typed)
        return outcome.code, outcome.out, outcome.err

    return call


@pytest.fixture
def propose(governed, cli) -> Callable[..., str]:
    settings = load_config(None, []).model_dump(mode="json")
    (governed.root / "run.yaml").write_text(yaml.safe_dump({"seed": settings["seed"]}))

    def call(*more: str) -> str:
        code, out, err = cli(
            "deploy",
            "propose",
            "run.yaml",
            *SHAPE,
            "--federation",
            "f",
            "--purpose",
            "a study",
            "--format",
            "json",
            *(more or ("--syftbox", "syftbox")),
        )
        assert code == 0, err
        return json.loads(out)["plan"]

    return call


def review(cli, *more: str) -> list[dict]:
    code, out, err = cli("site", "review", SITE, *more, "--format", "json")
    assert code == 0, err
    return json.loads(out)


def test_owner_reviews_approves_and_withdraws(cli, propose, governed) -> None:
    plan = propose()
    (shown,) = review(cli)
    assert (shown["plan"], shown["decision"], shown["objections"]) == (plan, "no approval", [])
    assert shown["differential_privacy"].startswith("NONE")
    assert shown["settings_changed"]["data.name"] == "digits"
    assert cli("site", "approve", SITE, plan[:16], "--days", "3", typed="y\n")[0] == 0
    assert review(cli)[0]["decision"] == "approved by the owner"
    assert cli("site", "reject", SITE, plan[:10], "--reason", "second thoughts")[0] == 0
    assert review(cli)[0]["decision"] == "no approval"
    code, _, err = cli("site", "approve", SITE, plan, "--yes")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "rejected" in err
    events = [line["event"] for line in governed.log("site-01")]
    assert events == ["approved", "rejected"]


def test_proposed_plan_is_the_one_that_run_federation_would_offer(cli, propose) -> None:
    plan = propose()
    again = propose("training.local_steps=7", "--syftbox", "syftbox")
    assert again != plan
    more = ("training.local_steps=7",)
    code, out, err = cli(
        "run", "run.yaml", *SHAPE, *more, "--federation", "f", "--dry-run", "--format", "json"
    )
    assert code == 0, err
    assert json.loads(out)["plan"] == again


def test_proposed_plan_names_the_model_that_a_run_would_start_from(cli, propose, governed) -> None:
    small = ("data.name=digits", "data.max_images=200", "model.block_channels=[8]")
    small += ("model.attention=[false]", "training.local_steps=1", "federation.rounds=1")
    small += ("evaluation.num_images=0", "sampling.num_steps=2", "output.num_samples=1")
    code, _, err = cli("run", "run.yaml", *small, "--run-dir", "start")
    assert code == 0, err
    start = "model.init_from=start"
    plan = propose(start, "--syftbox", "syftbox")
    run = ("run", "run.yaml", *SHAPE, start, "--federation", "f", "--dry-run", "--format", "json")
    code, out, err = cli(*run)
    assert code == 0, err
    assert json.loads(out)["plan"] == plan
    (file,) = (governed.syftbox / "site-01@trial.invalid").rglob("plan.json")
    assert Plan.from_bytes(file.read_bytes()).config.model.start is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["secure_aggregation.max_images=null"], "set secure_aggregation.max_images"),
        (["evaluation.num_images=10"], "set evaluation.num_images=0"),
        (["audit.profile=smoke"], "set audit.profile=none"),
        (["secure_aggregation.dropout=0.4"], "set secure_aggregation.dropout=0.2"),
        (["data.image_size=9"], "data.image_size = 9"),
        (["federation.participation=0.2"], "federation.participation"),
    ],
)
def test_what_a_run_refuses_cannot_be_proposed(
    cli, governed, propose, settings: list[str], named: str
) -> None:
    """Owners signed plans that could never begin."""
    again = {each.partition("=")[0] for each in settings}
    shape = [each for each in SHAPE if each.partition("=")[0] not in again]
    more = (*shape, *settings, "--federation", "f")
    code, _, err = cli(
        *("deploy", "propose", "run.yaml", *more, "--purpose", "a study", "--write", "out"),
    )
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert named in err
    assert not (governed.root / "out").exists()
    refused = cli("run", "run.yaml", *more, "--run-dir", "run")
    assert (refused[0], refused[2]) == (code, err)


@pytest.mark.parametrize("is_said", ["on the command line", "in server.yaml"])
def test_proposed_plan_is_that_of_a_run_whose_messages_are_carried(
    cli, propose, governed, is_said: str
) -> None:
    plain = propose()
    via = ("--via", f"folder:{governed.exchange}")
    if is_said == "in server.yaml":
        file = governed.server.path / "server.yaml"
        file.write_text(
            yaml.safe_dump(yaml.safe_load(file.read_text()) | {"folder": str(governed.exchange)})
        )
        via = ()
    carried = propose(*via, "--syftbox", "syftbox")
    assert carried != plain
    run = ("run", "run.yaml", *SHAPE, "--federation", "f", *via, "--dry-run", "--format", "json")
    code, out, err = cli(*run)
    assert code == 0, err
    assert json.loads(out)["plan"] == carried


def test_review_in_words_says_what_is_missing_and_what_is_against_it(
    cli, propose, governed
) -> None:
    governed.policy("site-01", max_epsilon=8)
    propose()
    code, out, _ = cli("site", "review", SITE)
    assert code == 0
    assert "NONE: the model may remember single images" in out
    assert "AGAINST IT: policy: the plan has no differential privacy" in out


def test_one_command_publishes_mock_data(cli, governed) -> None:
    code, out, err = cli("site", "publish", SITE, "--image-size", "8", "--channels", "1")
    assert code == 0, err
    assert "256 mock images" in out
    assert list(governed.syftbox.rglob("images.npz"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["site", "review", SITE, "nothing"], "0 of 0 proposals"),
        (["site", "approve", SITE, "ab" * 8], "0 of 0 proposals"),
        (["site", "reject", SITE, "ab", "--reason", "no"], "0 of 0 proposals"),
        (["site", "publish", SITE, "--image-size", "8", "--channels", "2"], "--channels"),
    ],
)
def test_wrong_input_gets_one_line(cli, arguments, named) -> None:
    code, _, err = cli(*arguments)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert named in err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ([], "either --syftbox FOLDER or --write"),
        (["--syftbox", "a", "--write", "b"], "either --syftbox FOLDER or --write"),
        (["--syftbox", "a", "--owner", "site-01"], "SITE=EMAIL"),
        (["--syftbox", "a", "--owner", "site-01=../../etc"], "no e-mail address"),
        (["--syftbox", "a", "--owner", "nobody=a@b.c"], "no such site"),
        (["--syftbox", "a", "--coordinator", "me"], "no e-mail address"),
        (["--syftbox", "a", "--name", "../x"], "proposal's name"),
        (["--syftbox", "a", "--name", "v1"], "proposal's name"),
    ],
)
def test_proposals_with_wrong_options_leave_nothing(cli, propose, governed, more, named) -> None:
    code, _, err = cli(
        *("deploy", "propose", "run.yaml", *SHAPE),
        *("--federation", "f", "--purpose", "a study", *more),
    )
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert named in err
    assert not list((governed.root / "a").rglob("plan.json"))


def test_sites_with_the_file_approver_have_nothing_to_review(cli, governed) -> None:
    governed.change("site-01", approver="file")
    code, _, err = cli("site", "review", SITE)
    assert code == 2
    assert "need approver: syft" in err


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"approver": "syft", "syft": None}, "section syft"),
        ({"approver": "telephone"}, "approver"),
        ({"syft": {"folder": "x", "owner": "../../etc@x"}}, "syft.owner"),
        ({"syft": {"folder": "/nowhere/at/all"}}, "is missing"),
    ],
)
def test_wrong_settings_are_named(cli, governed, settings, named) -> None:
    governed.change("site-01", **settings)
    code, _, err = cli("site", "review", SITE)
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert named in err


def test_without_the_extra_the_command_says_what_to_install(cli, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = cli("site", "review", SITE)
    assert code == 2
    assert "phoenix-secure[governance]" in err


def test_site_that_asks_for_pysyft_never_falls_back_to_signed_files(governed) -> None:
    with pytest.raises((ValueError, ConfigError), match="expected an approver"):
        SiteProcess(governed.site("site-01"), say=lambda text: None)

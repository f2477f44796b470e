"""An owner is made to sign what he has not seen.

Until 0.1.0 `site plans` showed six fields, and `site approve` signed whichever plan began with the
given characters, one would do, without showing it: a weak bound or a changed setting went by
unread, and a server could offer a second plan that begins like the first. With `approver: syft` the
name of a job, which the coordinator chooses, counted as the name of a plan.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from built_once import built_once
from command_line import Outcome, phoenix
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import require_digits
from phoenix_secure.federation.site.plan_sheet import PlanSheet, lines_of
from phoenix_secure.federation.site.policy import SitePolicy

SHAPE = ("data.name=digits", "data.image_size=8", "data.channels=1")
# One of each kind of bound or setting that weakens what the owner believes to sign.
WEAKENED = {
    "secure_aggregation.collusion": 0.2,
    "secure_aggregation.max_images": 7,
    "secure_aggregation.clip_value": 0.25,
    "federation.participation": 0.9,
    "federation.rounds": 11,
    "federation.server_learning_rate": 0.5,
    "training.local_steps": 3,
    "training.proximal_mu": 0.125,
    "data.held_out": 0.05,
    "sampling.num_steps": 3,
    "seed": 12345,
}


class Site:
    """One real site, and a server that offers it plans."""

    def __init__(self, path: Path) -> None:
        self.place = SiteFolder(path / "sites" / "site-01")
        self.roster = ServerFolder(path / "server").roster()
        self.place.make_folders()

    def offer(self, *overrides: str) -> Plan:
        config = load_config(None, [*SHAPE, "partition.num_sites=7", *overrides])
        plan = Plan.make(config, roster=self.roster, bundle_hash="ab" * 32)
        (self.place.plans / f"{plan.hash}.json").write_bytes(plan.to_bytes())
        return plan

    def command(self, name: str, *arguments: str, typed: str = "") -> Outcome:
        return phoenix("site", name, self.place.path, *arguments, typed=typed)

    @property
    def signed(self) -> list[Path]:
        return list(self.place.approvals.iterdir())


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Site:
    def build(folder: Path) -> None:
        sites = tuple(numbered_sites(7))
        initialise(folder / "f", Deployment(federation="f", sites=sites, rehearsal=True))

    made = built_once(tmp_path_factory, "unseen-plan", build) / "f"
    return Site(Path(shutil.copytree(made, tmp_path / "f")))


def test_every_changed_setting_and_every_bound_is_shown_before_it_is_signed(site: Site) -> None:
    plan = site.offer(*(f"{name}={value}" for name, value in WEAKENED.items()))
    shown = site.command("plans").out, site.command("approve", plan.hash, "--yes").out
    for text in shown:
        for name, value in WEAKENED.items():
            assert f"  {name} = {json.dumps(value)}\n" in text, name
        assert "  honest sites behind every sum, at least = 3\n" in text
        # A bound that is the default is a bound all the same.
        assert "  federation.deadline_s = 86400.0\n" in text
    assert plan.hash in shown[1]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_no_setting_can_change_without_being_shown() -> None:
    """Every single setting, against its default; through what is shown, not through the plan."""
    rounds = load_config(None, ["privacy.unit=record", "privacy.epsilon=8"])
    # A run of rounds writes nothing of a release: its settings count where there is one.
    release = rounds.model_copy(
        update={"release": rounds.release.model_copy(update={"features": "hog"})}
    )
    for section, field in settings_of(rounds):
        private = release if section == "release" and field != "features" else rounds
        changed = with_other_value(private, section, field)
        plan = Plan(federation="f", roster_hash="0" * 64, bundle_hash="0" * 64, config=changed)
        facts = PlanSheet.of(plan, policy=SitePolicy()).facts()
        name = f"{section}.{field}" if section else field
        assert name in facts["settings_changed"], name
        assert any(line.startswith(f"  {name} = ") for line in lines_of(facts)), name


# Where no other value can be written down, or put into words.
OTHER = {
    "data.split": "keyed",
    "privacy.unit": "site",
    "secure_aggregation.collusion": 0.2,  # a number of sites follows from it
    "secure_aggregation.broadcast": "sum",  # left out, the sheet warns that the server sends models
}


def settings_of(config: RunConfig) -> list[tuple[str, str]]:
    found = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        inner = getattr(type(value), "model_fields", None)
        found += [(name, field) for field in inner] if inner else [("", name)]
    return found


def with_other_value(config: RunConfig, section: str, field: str) -> RunConfig:
    """One setting changed, past the validators: what is not possible is shown all the same."""
    if not section:
        return config.model_copy(update={field: 77})
    value = OTHER.get(f"{section}.{field}", 77)
    part = getattr(config, section).model_copy(update={field: value})
    return config.model_copy(update={section: part})


@pytest.mark.parametrize("typed", ["", "\n", "n\n", "no\n"])
def test_nothing_is_signed_unless_the_owner_says_yes(site: Site, typed: str) -> None:
    plan = site.offer()
    asked = site.command("approve", plan.hash[:16], typed=typed)
    assert (asked.code, site.signed) == (2, [])
    assert "nothing was signed" in asked.err
    assert site.command("approve", plan.hash[:16], typed="y\n").code == 0
    (line,) = site.place.audit().lines()
    assert (line["event"], line["plan"]) == ("approved", plan.hash)


def test_a_few_digits_name_no_plan_and_a_script_names_all_of_them(site: Site) -> None:
    plan = site.offer()
    for digits in ("", plan.hash[0], plan.hash[:15], plan.hash[:16].upper() + "G"):
        asked = site.command("approve", digits, typed="y\n")
        assert (asked.code, site.signed) == (2, []), digits
        assert "at least 16 hexadecimal digits" in asked.err
    asked = site.command("approve", plan.hash[:63], "--yes")
    assert (asked.code, site.signed) == (2, [])
    assert "whole hash" in asked.err
    assert site.command("approve", plan.hash, "--yes").code == 0
    with pytest.raises(ConfigError, match="whole hash"):
        require_digits(plan.hash[:16], asks=False)


def test_a_file_that_holds_another_plan_than_its_name_says_is_not_signed(site: Site) -> None:
    """Whoever can write below plans/ puts his plan under the hash that the owner was told."""
    plan, other = site.offer(), site.offer("seed=1")
    (site.place.plans / f"{plan.hash}.json").write_bytes(other.to_bytes())
    asked = site.command("approve", plan.hash, "--yes")
    assert (asked.code, site.signed) == (2, [])
    assert "another plan than its name says" in asked.err


def test_a_plan_that_the_policy_refuses_is_shown_with_the_reason_and_not_signed(
    site: Site,
) -> None:
    settings = yaml.safe_load(site.place.settings_file.read_text())
    settings["policy"] = settings["policy"] | {"min_collusion": 0.3}
    site.place.settings_file.write_text(yaml.safe_dump(settings))
    plan = site.offer()
    asked = site.command("approve", plan.hash, "--yes")
    assert (asked.code, site.signed) == (2, [])
    assert "AGAINST IT: policy: secure_aggregation.collusion is below 0.3" in asked.out
    assert "AGAINST IT" in site.command("plans").out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["secure_aggregation.broadcast=sum"], "computed by this site from the sums"),
        (["secure_aggregation.broadcast=model"], "SENT BY THE SERVER"),
        (["secure_aggregation.mode=off"], "SENT BY THE SERVER"),
        (
            ["secure_aggregation.broadcast=model", "sharing.source=public", "sharing.name=mnist"],
            "sharing.warmup_steps",
        ),
    ],
)
def test_owner_reads_where_each_model_comes_from(
    site: Site, settings: list[str], words: str
) -> None:
    """A server that may send models can ask questions with them."""
    plan = site.offer(*settings)
    asked = site.command("approve", plan.hash, typed="n\n")
    for shown in (site.command("plans").out, asked.out):
        (line,) = [line for line in shown.splitlines() if line.startswith("models ")]
        assert words in line
    assert site.signed == []


def test_no_text_in_a_plan_hides_another_on_the_terminal(site: Site) -> None:
    """Cursor moves, line ends, reversed writing, emoji names, mark-up."""
    text = "/a\x1b[2J\x1b[1;1H\r\u202eseed = 0 :warning: [red]x[/red] \u0430"
    plan = site.offer(f"data.path={json.dumps(text)}")
    shown = site.command("plans").out
    assert shown.isascii()
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert f"  data.path = {json.dumps(plan.config.data.path)}\n" in shown
    assert "[red]x[/red]" in shown
    assert ":warning:" in shown


def test_both_approvers_show_the_same_and_a_jobs_name_is_no_plan(
    site: Site, tmp_path: Path
) -> None:
    """The coordinator names a job like the plan that the owner was told, and proposes another."""
    pytest.importorskip("syft_job", reason="the extra governance is not installed")
    from phoenix_secure.governance.propose import Proposer

    server = ServerFolder(tmp_path / "f" / "server")
    ready = ("secure_aggregation.max_images=64", "evaluation.num_images=0")
    config = load_config(None, [*SHAPE, "partition.num_sites=7", *ready])
    changed = config.model_copy(update={"seed": 1})
    told, hidden = (
        Proposer(each, server=server, release="consortium", purpose="a study")
        for each in (config, changed)
    )
    settings = yaml.safe_load(site.place.settings_file.read_text())
    settings |= {"approver": "syft", "syft": {"folder": str(tmp_path / "box")}}
    hidden.submit(tmp_path / "box", name=told.plan.hash)
    site.offer(*ready)
    before = site.command("plans").out.splitlines()
    site.place.settings_file.write_text(yaml.safe_dump(settings))
    assert site.command("review").code == 0
    asked = site.command("approve", told.plan.hash, "--yes")
    assert (asked.code, site.signed) == (2, [])
    assert "0 of 1 proposals are of a plan that begins with" in asked.err
    told.submit(tmp_path / "box", name="told")
    site.command("review", "told")
    for typed in ("", "n\n"):
        asked = site.command("approve", told.plan.hash[:16], typed=typed)
        assert (asked.code, site.signed) == (2, [])
    sheet = [line for line in before if line.startswith("  ")]
    assert len(sheet) > 30
    assert set(sheet) <= set(asked.out.splitlines())
    assert site.command("approve", told.plan.hash[:16], typed="y\n").code == 0
    assert [path.name for path in site.signed] == [f"{told.plan.hash}.consent.json"]

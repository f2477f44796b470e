"""What decides over each plan, in the order of the gate; and looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ceremony import files_of
from owned_site import OwnedSite
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.governance.owner_page.site_state import SiteState, Standing


@pytest.fixture
def site(tmp_path: Path) -> OwnedSite:
    return OwnedSite(tmp_path / "trial")


def approve(place: SiteFolder, plan: Plan) -> None:
    owner = place.approver_identity(place.approver_key)
    place.audit().record("approved", plan=plan.hash)
    sign_approval(place.approvals, plan=plan.hash, site="site-01", owner=owner)


def standing(site: OwnedSite, plan: Plan) -> tuple[Standing, str]:
    [found] = [each for each in SiteState(site.place).plans() if each.name == plan.hash]
    return found.standing, found.rule


def test_rule_that_decides_is_named(site: OwnedSite) -> None:
    plan, long = site.offer(), site.offer("federation.rounds=2000")
    waits = Standing.WAITS, "meets the policy; denied as long as there is no approval"
    assert standing(site, plan) == waits
    assert standing(site, long) == (
        Standing.REFUSED,
        "policy: federation.rounds is above 1000",
    )
    approve(site.place, plan)
    approved = Standing.APPROVED, "meets the policy, and approved by the owner"
    assert standing(site, plan) == approved
    site.place.reject(plan.hash, reason="no ethics vote yet")
    assert standing(site, plan) == (Standing.REJECTED, "by you: no ethics vote yet")
    approve(site.place, plan)  # the owner's last word counts
    assert standing(site, plan) == approved
    site.policy(max_rounds=5)  # stands above what was signed
    assert standing(site, plan) == (Standing.REFUSED, "policy: federation.rounds is above 5")
    site.place.close_plans()
    assert standing(site, plan)[0] is Standing.CLOSED


def test_plans_that_wait_for_the_owner_come_first(site: OwnedSite) -> None:
    for settings in (
        ["federation.rounds=2000"],
        ["seed=1"],
        ["federation.rounds=3000"],
        ["seed=2"],
    ):
        site.offer(*settings)
    found = [each.standing for each in SiteState(site.place).plans()]
    assert found == [Standing.WAITS] * 2 + [Standing.REFUSED] * 2


def test_plan_of_another_roster_is_refused_by_its_rule(site: OwnedSite, tmp_path: Path) -> None:
    foreign = OwnedSite(tmp_path / "other").offer()
    (site.place.plans / f"{foreign.hash}.json").write_bytes(foreign.to_bytes())
    found = standing(site, foreign)
    assert found[0] is Standing.REFUSED
    assert found[1].startswith("roster: ")


def test_live_round_is_what_the_log_says(site: OwnedSite) -> None:
    assert not SiteState(site.place).live().is_running
    plan, audit = site.offer(), site.place.audit()
    audit.record("started", site="site-01")
    for number in range(3):
        audit.record("answered", plan=plan.hash, stage=f"mask {number}")
    live = SiteState(site.place).live(most=2)
    assert (live.is_running, live.plan, live.rounds) == (True, plan.hash, 10)
    assert [line.stage for line in live.recent] == ["mask 2", "mask 1"]
    audit.record("stopped", site="site-01")
    assert not SiteState(site.place).live().is_running


@pytest.mark.parametrize("named", ["../site", "../plans/{}", "{}/../{}", "\x00", "f" * 64])
def test_request_that_names_no_plan_of_the_site_is_not_looked_up(
    site: OwnedSite, named: str
) -> None:
    plan = site.offer()
    named = named.format(plan.hash, plan.hash)
    site.place.audit().record("refused", plan=named, stage="plan", why="the request names no plan")
    live = SiteState(site.place).live()
    assert (live.plan, live.rounds) == (named, None)


def test_checks_name_what_is_wrong(site: OwnedSite) -> None:
    found = {each.name: each for each in SiteState(site.place).checks()}
    assert not found["approver.key"].is_good
    assert found["identity.key"].is_good
    site.place.identity_key.chmod(0o644)
    site.place.approver_key.unlink()
    found = {each.name: each for each in SiteState(site.place).checks()}
    assert found["approver.key"].is_good
    assert "chmod 600" in found["identity.key"].said


def test_looking_writes_nothing(site: OwnedSite) -> None:
    site.offer()
    site.place.audit().record("started")
    before = files_of(site.place.path)
    state = SiteState(site.place)
    state.plans(), state.live(), state.checks(), state.budget.rows()
    assert files_of(site.place.path) == before

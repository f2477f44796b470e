"""Approving and starting plans against a site's privacy budget, on the folders that sites keep."""

from __future__ import annotations

import json

import pytest

from command_line import phoenix
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import BudgetExhausted, ConfigError
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.ledger import PrivacyLedger, Release

SITE = "site-02"
SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "partition.num_sites=5",
    "federation.rounds=4",
    "training.local_steps=5",
    "privacy.unit=record",
    "privacy.epsilon=6",
    "privacy.sampling_rate=0.1",
]


@pytest.fixture
def federation(folder_federation):
    folder_federation.change(SITE, policy={"max_epsilon": 6.0, "max_total_epsilon": 7.0})
    return folder_federation


@pytest.fixture
def place(federation) -> SiteFolder:
    found = federation.site(SITE)
    found.make_folders()
    return found


def offer(place: SiteFolder, *overrides: str) -> Plan:
    plan = Plan.make(
        load_config(None, [*SETTINGS, *overrides]), roster=place.roster(), bundle_hash="0" * 64
    )
    (place.plans / f"{plan.hash}.json").write_bytes(plan.to_bytes())
    return plan


def approve(place: SiteFolder, plan: Plan) -> None:
    """As on another machine, where nobody looks at the ledger."""
    owner = place.approver_identity(place.approver_key)
    sign_approval(place.approvals, plan=plan.hash, site=SITE, owner=owner)


def release(place: SiteFolder, plan: Plan, *, rounds: int) -> None:
    private = plan_privacy(plan.config, terms=None)
    assert private is not None
    ledger = PrivacyLedger.open(place.privacy_ledger)
    for number in range(1, rounds + 1):
        ledger.charge(
            Release(
                id=f"{plan.hash}-{number}",
                plan=plan.hash,
                round_number=number,
                data="0" * 64,
                event=private.event,
            ),
            max_releases=private.max_releases,
            total=None,
        )


def budget_of(place: SiteFolder) -> SiteBudget:
    settings = place.settings()
    return SiteBudget(place, policy=settings.policy, approver=place.approver(settings))


def together(plan: Plan, *rounds: int) -> float:
    private = plan_privacy(plan.config, terms=None)
    assert private is not None
    return epsilon_of([private.event] * sum(rounds), delta=1e-5).value


@pytest.mark.long
def test_a_plan_reserves_from_its_approval_on_and_spends_what_it_releases(place) -> None:
    first, second = offer(place), offer(place, "seed=1", "privacy.epsilon=3")
    budget = budget_of(place)
    assert budget.rows() == []
    (row,) = budget.rows(first)
    assert (row.spent, row.reserved, row.added) == (0.0, 0.0, together(first, 4))
    approve(place, first)
    (row,) = budget.rows()
    assert (row.spent, row.reserved, row.left) == (
        0.0,
        together(first, 4),
        pytest.approx(7.0 - together(first, 4)),
    )
    release(place, first, rounds=3)
    (row,) = budget.rows(second)
    assert (row.spent, row.reserved) == (together(first, 3), together(first, 1))
    assert row.together < row.spent + row.reserved + row.added
    (place.approvals / f"{first.hash}.json").unlink()
    (row,) = budget.rows()
    assert (row.spent, row.reserved) == (together(first, 3), 0.0)


def test_a_plan_that_does_not_fit_is_refused_at_approval_and_before_training(place) -> None:
    first, second = offer(place), offer(place, "seed=1")
    budget = budget_of(place)
    budget.require_fit(first)
    approve(place, first)
    with pytest.raises(BudgetExhausted, match=r"above the site's 7 \(spent 0, reserved by"):
        budget.require_fit(second)
    # Signed elsewhere: before the first has begun, whichever comes first trains.
    approve(place, second)
    budget.require_fit_to_start(second)
    release(place, first, rounds=1)
    with pytest.raises(BudgetExhausted, match="above the site's 7"):
        budget.require_fit_to_start(second)
    budget.require_fit_to_start(first)


@pytest.mark.parametrize("delta", [0.5, 0.01, 1.0, 0.0, -1.0, 1e-13])
def test_a_policy_whose_delta_bounds_nothing_is_refused(federation, place, delta: float) -> None:
    """At delta 0.5 a plan of any epsilon would seem to cost next to nothing."""
    federation.change(SITE, policy={"max_epsilon": 6.0, "max_delta": delta})
    with pytest.raises(ConfigError, match=r"policy\.max_delta: must be .* set 1e-5 or less"):
        place.settings()


@pytest.mark.parametrize("delta", [float("nan"), float("inf")])
def test_a_policy_whose_delta_is_no_number_is_refused(federation, place, delta: float) -> None:
    federation.change(SITE, policy={"max_epsilon": 6.0, "max_delta": delta})
    with pytest.raises(ConfigError, match=r"policy\.max_delta: .*finite"):
        place.settings()


def test_plans_without_privacy_or_limit_need_no_budget(federation, place) -> None:
    plain = offer(place, "privacy.unit=none", "privacy.epsilon=null")
    budget_of(place).require_fit(plain)
    assert budget_of(place).rows(plain) == []
    federation.change(SITE, policy={})
    big = offer(place, "privacy.epsilon=500")
    budget_of(place).require_fit(big)
    (row,) = budget_of(place).rows(big)
    assert row.left is row.total is None


def test_the_owner_sees_the_budget_and_is_refused(place: SiteFolder) -> None:
    def site(command: str, *arguments: str) -> tuple[int, str, str]:
        outcome = phoenix("site", command, place.path, *arguments)
        return outcome.code, outcome.out, outcome.err

    first, second = offer(place), offer(place, "seed=1")
    assert "nothing was released" in site("budget")[1]
    code, out, _ = site("approve", first.hash, "--yes")
    assert code == 0
    assert "add or remove one image" in out
    code, _, err = site("approve", second.hash, "--yes")
    assert code == 15
    assert "withdraw another approval, or raise policy.max_total_epsilon" in err
    assert not (place.approvals / f"{second.hash}.json").exists()
    (row,) = json.loads(site("budget", "--format", "json")[1])
    assert row["unit"] == "record"
    assert row["reserved"] == pytest.approx(together(first, 4))
    assert row["left"] == pytest.approx(7 - row["reserved"])
    assert "reserved" in site("budget")[1]


def test_whole_sites_are_budgeted_with_the_noise_of_their_network(federation, place) -> None:
    plan = offer(
        place,
        "privacy.unit=site",
        "privacy.delta=1e-5",
        "secure_aggregation.mode=on",
        "model.block_channels=[8,16]",
        "model.attention=[false,false]",
    )
    (row,) = budget_of(place).rows(plan)
    assert (row.unit, row.adjacency) == ("site", "add or remove one whole site")
    assert 5.5 < row.added <= 6.0

"""The gate: nothing reaches the handler that its owner did not approve, in the order it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, ConfigError, DataError, StorageError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.request import SiteRequest
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import SignedApprovals, sign_approval
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.gate import Gate
from phoenix_secure.federation.site.policy import SitePolicy
from protocol import ChangeKind, Identity, Roster, RosterChain, RosterChange

BUNDLE = "ab" * 32
OWNER = Identity.generate("approver")
FEDERATION_OWNER = Identity.generate("owner")
ROSTER = Roster.create(
    federation_id="test",
    owner_key=FEDERATION_OWNER.public_key,
    server_key=Identity.generate("server").public_key,
    keys={f"s{i}": Identity.generate(f"s{i}").public_key for i in range(5)},
)


def make_plan(*overrides: str, roster: Roster = ROSTER) -> Plan:
    settings = ["data.name=digits", "data.image_size=8", "data.channels=1"]
    settings += ["partition.num_sites=5", "secure_aggregation.max_images=64"]
    return Plan.make(load_config(None, [*settings, *overrides]), roster=roster, bundle_hash=BUNDLE)


class Site:
    """A gate over a handler that counts its calls."""

    def __init__(self, root: Path, **policy) -> None:
        self.root = root
        self.calls: list[tuple[str, bytes]] = []
        self.installed: list[str] = []
        self.chain = RosterChain.of(
            [ROSTER.sign(FEDERATION_OWNER)], owner_key=FEDERATION_OWNER.public_key
        )
        (root / "plans").mkdir(exist_ok=True)
        self.audit = AuditLog(root / "audit.jsonl")
        self.gate = Gate(
            "s1",
            plans=root / "plans",
            rosters=lambda: self.chain,
            approver=SignedApprovals(root / "approvals", site="s1", owner_key=OWNER.public_key),
            policy=SitePolicy(**policy),
            audit=self.audit,
            install=self._install,
            take_rosters=self._take,
        )

    def _take(self, rosters: bytes) -> None:
        if rosters != b"signed":
            raise ConfigError("fork: another roster")

    def _install(self, plan: Plan):
        self.installed.append(plan.hash)

        def handle(stage: str, body: bytes) -> bytes:
            self.calls.append((stage, body))
            if stage == "explode":
                raise DataError("/data/patients/4711.png is broken")
            if stage in ("refuse", "stop"):
                code = FailureCode.REFUSED if stage == "refuse" else FailureCode.CANCELLED
                raise SiteFailure(code, why="the rule")
            return b"reply to " + body

        return handle

    def ask(self, plan: Plan, stage: str, body: bytes = b"", **changes) -> bytes:
        fields = {"site": "s1", "session": plan.hash, "bundle_hash": BUNDLE} | changes
        return self.gate(SiteRequest(stage=stage, body=body, **fields))

    def offer(self, plan: Plan, **changes) -> bytes:
        return self.ask(plan, "plan", plan.to_bytes(), **changes)

    def approve(self, plan: Plan, *, owner: Identity = OWNER, site: str = "s1", days: int = 1):
        return sign_approval(
            self.root / "approvals", plan=plan.hash, site=site, owner=owner, days=days
        )

    def refused(self, ask, *arguments, **changes) -> str:
        """Why the request was refused; the server saw the code and the handler saw nothing."""
        before = len(self.calls)
        with pytest.raises(SiteFailure) as caught:
            ask(*arguments, **changes)
        assert caught.value.code is FailureCode.REFUSED
        assert len(self.calls) == before
        line = self.audit.lines()[-1]
        assert line["event"] == "refused"
        return line["why"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_unapproved_plans_are_refused_but_kept_for_their_owner_to_read(site: Site) -> None:
    plan = make_plan()
    assert site.refused(site.offer, plan) == "no approval"
    assert (site.root / "plans" / f"{plan.hash}.json").read_bytes() == plan.to_bytes()
    assert site.refused(site.ask, plan, "announce") == "no approval"
    assert site.installed == []


def test_approved_plan_reaches_the_handler(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    assert site.offer(plan) == b"ready"
    assert site.ask(plan, "announce", b"x") == b"reply to x"
    assert site.calls == [("announce", b"x")]
    assert [line["event"] for line in site.audit.lines()] == ["ready", "answered"]


def test_withdrawing_an_approval_stops_a_running_plan_at_once(site: Site) -> None:
    plan = make_plan()
    path = site.approve(plan)
    site.offer(plan)
    path.unlink()
    assert site.refused(site.ask, plan, "announce", b"x") == "no approval"


def test_another_bundle_is_refused_and_recorded(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    why = site.refused(site.ask, plan, "announce", bundle_hash="cd" * 32)
    assert "bundle cdcdcdcd" in why
    assert site.ask(plan, "announce", bundle_hash=None) == b"reply to "


def test_approval_comes_before_bundle_before_policy(tmp_path: Path) -> None:
    site = Site(tmp_path, min_sites=6)
    plan = make_plan()
    assert site.refused(site.offer, plan, bundle_hash="cd" * 32) == "no approval"
    site.approve(plan)
    assert "bundle" in site.refused(site.offer, plan, bundle_hash="cd" * 32)
    assert "policy" in site.refused(site.offer, plan)


@pytest.mark.parametrize(
    ("policy", "overrides", "named"),
    [
        ({}, ["secure_aggregation.mode=off"], "secure_aggregation.mode"),
        ({"min_sites": 6}, [], "partition.num_sites"),
        ({}, ["federation.participation=0.4"], "federation.participation"),
        ({"min_collusion": 0.2}, [], "secure_aggregation.collusion"),
        ({"max_rounds": 9}, ["federation.rounds=10"], "federation.rounds"),
        ({"max_epsilon": 8.0}, [], "no differential privacy"),
    ],
)
def test_policy_refuses_by_name_what_was_approved(tmp_path, policy, overrides, named) -> None:
    site = Site(tmp_path, **policy)
    plan = make_plan(*overrides)
    site.approve(plan)
    assert named in site.refused(site.offer, plan)


def test_plan_in_the_clear_needs_an_explicit_policy(tmp_path: Path) -> None:
    site = Site(tmp_path, require_secure_aggregation=False)
    plan = make_plan("secure_aggregation.mode=off")
    site.approve(plan)
    assert site.offer(plan) == b"ready"


def test_forged_approvals_are_refused(site: Site) -> None:
    plan, other = make_plan(), make_plan("seed=1")
    site.approve(plan, owner=Identity.generate("approver"))
    assert "not signed" in site.refused(site.offer, plan)
    site.approve(plan, site="s2")
    assert "another plan or site" in site.refused(site.offer, plan)
    approval = site.approve(other)
    approval.rename(approval.with_name(f"{plan.hash}.json"))
    assert "another plan or site" in site.refused(site.offer, plan)
    path = site.approve(plan)
    path.write_text(path.read_text().replace('"expires": 1', '"expires": 2'))
    assert "not signed" in site.refused(site.offer, plan)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"[" * 9999, b'{"plan": 1}', b"\xff"])
def test_unreadable_approvals_are_refused(site: Site, content: bytes) -> None:
    plan = make_plan()
    site.approve(plan).write_bytes(content)
    site.refused(site.offer, plan)


def test_expired_approvals_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from phoenix_secure.federation.site import approval

    plan = make_plan()
    site.approve(plan, days=1)
    now = approval.dt.datetime.now(approval.dt.UTC)

    class Later(approval.dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return now + approval.dt.timedelta(days=1, seconds=2)

    monkeypatch.setattr(approval.dt, "datetime", Later)
    assert "expired" in site.refused(site.offer, plan)


def test_plans_of_another_roster_are_refused(site: Site) -> None:
    stranger = dataclasses.replace(ROSTER, federation_id="other")
    plan = make_plan(roster=stranger)
    site.approve(plan)
    assert "another roster" in site.refused(site.offer, plan)


def test_stored_plan_that_was_changed_is_refused(site: Site) -> None:
    plan, weaker = make_plan(), make_plan("secure_aggregation.mode=off")
    site.approve(plan)
    site.offer(plan)
    (site.root / "plans" / f"{plan.hash}.json").write_bytes(weaker.to_bytes())
    assert "changed" in site.refused(site.ask, plan, "announce")


@pytest.mark.parametrize("session", ["", "../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 33])
def test_sessions_that_are_no_plan_are_refused(site: Site, session: str) -> None:
    why = site.refused(site.ask, make_plan(), "announce", session=session)
    assert why == "the request names no plan"


def test_offered_plan_must_be_the_one_that_the_session_names(site: Site) -> None:
    plan, other = make_plan(), make_plan("seed=1")
    site.approve(plan)
    why = site.refused(site.ask, plan, "plan", other.to_bytes())
    assert "not the hash" in why
    assert not list((site.root / "plans").iterdir())


def test_requests_for_another_site_are_refused(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    assert "another site" in site.refused(site.offer, plan, site="s2")


def test_server_cannot_fill_the_disk_with_plans(site: Site) -> None:
    for seed in range(64):
        site.refused(site.offer, make_plan(f"seed={seed}"))
    assert "too many" in site.refused(site.offer, make_plan("seed=64"))
    assert len(list((site.root / "plans").iterdir())) == 64


def test_repeated_request_gets_the_same_answer_without_a_second_computation(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    assert site.ask(plan, "mask", b"x") == site.ask(plan, "mask", b"x")
    assert site.calls == [("mask", b"x")]
    assert site.audit.lines()[-1]["event"] == "answered again"


def test_failures_are_recorded_by_kind_without_their_text(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    with pytest.raises(DataError):
        site.ask(plan, "explode")
    line = site.audit.lines()[-1]
    assert (line["event"], line["kind"]) == ("failed", "DataError")
    assert "patients" not in (site.root / "audit.jsonl").read_text()


@pytest.mark.parametrize(("stage", "event"), [("refuse", "refused"), ("stop", "failed")])
def test_rule_that_a_request_broke_is_recorded_and_only_the_code_leaves(
    site: Site, stage: str, event: str
) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    with pytest.raises(SiteFailure) as caught:
        site.ask(plan, stage)
    assert str(caught.value) == caught.value.code.value
    line = site.audit.lines()[-1]
    assert (line["event"], line["why"]) == (event, "the rule")


def test_nothing_leaves_when_the_audit_log_cannot_be_written(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    log = site.root / "audit.jsonl"
    content = log.read_bytes()
    log.unlink()
    log.mkdir()
    with pytest.raises((StorageError, CheckpointError)):
        site.ask(plan, "announce", b"x")
    log.rmdir()
    log.write_bytes(content)


def test_second_plan_takes_the_place_of_the_first(site: Site) -> None:
    first, second = make_plan(), make_plan("seed=1")
    for plan in (first, second):
        site.approve(plan)
        site.offer(plan)
    site.ask(first, "announce", b"x")
    assert site.installed == [first.hash, second.hash, first.hash]


def later(site: Site, **changes) -> None:
    """The next roster is in force; ``changes``: kind of the change -> site."""
    chain = site.chain
    keys = dict(chain.current.members)
    stated = []
    for kind, name in changes.items():
        stated.append(RosterChange(kind=ChangeKind(kind), party=name))
        if ChangeKind(kind) in (ChangeKind.SUSPENDED, ChangeKind.REVOKED):
            del keys[name]
        else:
            keys[name] = Identity.generate(name).public_key
    site.chain = chain.extended(
        FEDERATION_OWNER, server_key=chain.current.server_key, keys=keys, changes=stated
    )


def test_plan_without_approved_changes_ends_with_its_roster(site: Site) -> None:
    plan = make_plan()
    site.approve(plan)
    site.offer(plan)
    later(site, rotated="s4")
    why = site.refused(site.ask, plan, "announce")
    assert "epoch 1, and epoch 2 is in force (s4 rotated)" in why
    assert "roster_changes=none): propose a new plan" in why
    site.approve(new := make_plan(roster=site.chain.current))
    site.offer(new)


def test_plan_with_approved_removals_goes_on_without_the_removed(site: Site) -> None:
    plan = make_plan("federation.roster_changes=remove")
    site.approve(plan)
    site.offer(plan)
    later(site, revoked="s4")
    assert site.ask(plan, "announce", b"x") == b"reply to x"
    later(site, suspended="s1")  # the site itself
    assert "s1 is not in the roster any more" in site.refused(site.ask, plan, "announce")


@pytest.mark.parametrize("kind", ["added", "rotated"])
def test_removals_approved_are_no_approval_of_new_keys(site: Site, kind: str) -> None:
    plan = make_plan("federation.roster_changes=remove")
    site.approve(plan)
    site.offer(plan)
    name = "late" if kind == "added" else "s3"
    later(site, **{kind: name})
    assert f"keys or sites than the plan's ({name})" in site.refused(site.ask, plan, "announce")


def test_rosters_are_heard_before_any_plan_and_others_refused_by_name(site: Site) -> None:
    plan = make_plan()
    assert site.ask(plan, "roster", b"signed") == b""
    assert site.refused(site.ask, plan, "roster", b"forged") == "fork: another roster"
    assert site.installed == []

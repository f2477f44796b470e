"""Plans: one plan has one hash, and only what was written by us is read back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from phoenix_secure.config_file import load_config
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.plan import MAX_PLAN_BYTES, Plan, plan_hash, plan_roster
from protocol import Identity, Roster

SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "partition.num_sites=5",
    "secure_aggregation.max_images=64",
]


def make_roster(num_sites: int = 5, *, federation: str = "test") -> Roster:
    return Roster.create(
        federation_id=federation,
        owner_key=Identity.generate("owner").public_key,
        server_key=Identity.generate("server").public_key,
        keys={f"s{i}": Identity.generate(f"s{i}").public_key for i in range(num_sites)},
    )


ROSTER = make_roster()


def make_plan(*overrides: str) -> Plan:
    config = load_config(None, [*SETTINGS, *overrides])
    return Plan.make(config, roster=ROSTER, bundle_hash="ab" * 32)


def test_reading_gives_back_the_plan_and_its_name() -> None:
    plan = make_plan()
    data = plan.to_bytes()
    assert Plan.from_bytes(data) == plan
    assert plan.hash == plan_hash(data)


@pytest.mark.parametrize("override", ["seed=1", "training.learning_rate=0.1", "ema.decay=0.9"])
def test_every_setting_is_part_of_the_name(override) -> None:
    assert make_plan(override).hash != make_plan().hash


def test_roster_and_bundle_are_part_of_the_name() -> None:
    plan = make_plan()
    other = dataclasses.replace(plan, bundle_hash="cd" * 32)
    assert other.hash != plan.hash
    assert dataclasses.replace(plan, roster_hash="cd" * 32).hash != plan.hash


def test_same_members_have_another_federation_id_in_each_plan() -> None:
    first, second = (plan_roster(ROSTER, make_plan(f"seed={s}")) for s in (1, 2))
    assert first.members == second.members == ROSTER.members
    assert len({first.hash, second.hash, ROSTER.hash}) == 3
    assert first.key("s1") == ROSTER.key("s1")
    # Nothing shorter: two plans with a common beginning are found in minutes.
    assert first.federation_id == make_plan("seed=1").hash


def changed(**fields) -> bytes:
    content = json.loads(make_plan().to_bytes()) | fields
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"x" * (MAX_PLAN_BYTES + 1),
        changed(version=2),
        changed(federation="../x"),
        changed(roster="zz" * 32),
        changed(bundle="ab"),
        changed(bundle=7),
        changed(config=[]),
        changed(config={"unknown": 1}),
        changed(config={}),  # defaults left out: a second writing of the same plan
        changed(extra=1),
        make_plan().to_bytes() + b"\n",
        json.dumps(json.loads(make_plan().to_bytes())).encode(),
    ],
)
def test_anything_else_is_refused_in_one_line(data) -> None:
    with pytest.raises(ConfigError) as caught:
        Plan.from_bytes(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("partition.num_sites=6", "partition.num_sites"),
        ("data.image_size=null", "data.image_size"),
        ("model.class_conditional=true", "class_conditional"),
    ],
)
def test_settings_of_one_process_are_refused_by_name(override, named) -> None:
    with pytest.raises(ConfigError, match=named):
        make_plan(override)

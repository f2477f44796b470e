"""Shadow models: the target's training again, resumable, and what they add."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import Target, open_target

TINY = dataclasses.replace(
    PROFILES["full"], num_shadow_pairs=2, noise_levels=(0.9, 0.6), num_noises=2, max_records=20
)


@pytest.fixture(scope="module")
def target(train, tmp_path_factory) -> Target:
    path = train(
        tmp_path_factory.mktemp("shadowed") / "run",
        "partition.num_sites=2",
        "data.max_images=200",
        "data.held_out=0.3",
        "data.reference=0.3",
        "model.block_channels=[8,8]",
        "training.local_steps=4",
        "training.batch_size=8",
        "federation.rounds=2",
    )
    files = dict.fromkeys(("members", "non_members", "reference"))
    return open_target(path, **files, device="cpu", cache_dir=path)


def audit(target: Target, out: Path, **options):
    request = Request(profile=TINY, attacks=("loss", "lira", "lira-joint", "rmia"))
    return run_audit(target, request, out=out, **options)


@pytest.mark.slow
def test_a_killed_audit_goes_on_to_the_same_scores(target: Target, tmp_path: Path) -> None:
    whole = audit(target, tmp_path / "whole")

    def kill(what: str, done: int, total: int) -> None:
        if what == "shadow 2 of 4" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(target, tmp_path / "killed", progress=kill)
    assert not (tmp_path / "killed" / "audit.json").exists()
    told: list[str] = []
    again = audit(
        target, tmp_path / "killed", progress=lambda what, k, n: told.append(f"{what} {k}")
    )
    assert not any(line.startswith("shadow 1 of 4") for line in told)
    assert "shadow 2 of 4 1" not in told
    assert "shadow 2 of 4 2" in told
    for one, other in zip(whole.scored, again.scored, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
    names = [one.name for one in whole.report.attacks]
    assert names == ["loss", "lira", "lira-joint", "rmia"]
    assert whole.report.plan.num_shadows == 4


@pytest.mark.long
def test_a_target_without_settings_has_no_shadows(
    target: Target, pictures: dict[str, Path], tmp_path: Path
) -> None:
    assert target.run is not None
    other = open_target(
        target.run.model,
        members=pictures["in"],
        non_members=pictures["out"],
        reference=None,
        device="cpu",
        cache_dir=tmp_path,
    )
    report = audit(other, tmp_path).report
    assert "needs a run folder" in report.skipped["lira"]
    assert [one.name for one in report.attacks] == ["loss"]

"""Members and non-members that were exchanged are not a clean result, and not a plain leak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audited_scores import plan_of, scored, units_of
from phoenix_secure.audit.figures import attack_reports
from phoenix_secure.audit.images import images_of_run
from phoenix_secure.audit.profiles import profile_named
from phoenix_secure.audit.report import Outcome, Verdict
from phoenix_secure.audit.suite import Request, run_audit
from phoenix_secure.audit.target import open_target
from phoenix_secure.audit.verdict import decide
from phoenix_secure.federation.run.folder import RunFolder

NUM = 400
HINT = "were --members and --non-members exchanged?"


@pytest.mark.long
def test_an_overfitted_model_with_exchanged_files_says_so(
    overfitted_run: Path, tmp_path: Path
) -> None:
    images = images_of_run(RunFolder(overfitted_run), cache_dir=overfitted_run / "cache")
    np.savez(tmp_path / "in.npz", images=images.members.images)
    np.savez(tmp_path / "out.npz", images=images.non_members.images)
    for names, exchanged in ((("in", "out"), False), (("out", "in"), True)):
        members, others = (tmp_path / f"{name}.npz" for name in names)
        target = open_target(
            overfitted_run / "model",
            members=members,
            non_members=others,
            reference=None,
            device="cpu",
            cache_dir=tmp_path,
        )
        request = Request(profile=profile_named("smoke"), attacks=("loss",))
        verdict = run_audit(target, request, out=tmp_path / names[0]).report.verdict
        assert verdict.outcome is not Outcome.NONE
        assert (verdict.outcome is Outcome.LEAK) or exchanged
        assert any(HINT in reason for reason in verdict.reasons) is exchanged


def verdict_of(shift: float, *, name: str = "loss", sign: int = 1, seed: int = 0) -> Verdict:
    """Of one attack whose scores are ``shift`` standard deviations higher for members."""
    rng = np.random.default_rng(seed)
    units, plan = units_of(NUM), plan_of(NUM)
    scores = rng.standard_normal(2 * NUM) + shift * units.membership
    one = scored(scores, name=name, sign=sign, placebo=rng.standard_normal(NUM))
    return decide(
        attack_reports([one], units=units, plan=plan), units=units, canaries=None, plan=plan
    )


@pytest.mark.parametrize("name", ["loss", "loss, mean", "nearest"])
def test_a_loss_that_is_clearly_lower_for_non_members_is_not_clean(name: str) -> None:
    """Too weak to be seen on the tuning split, so that the direction was not reversed there."""
    verdict = verdict_of(-0.4, name=name)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert HINT in verdict.reasons[0]
    assert verdict_of(-0.4, name="secmi").outcome is Outcome.NONE  # it may point either way
    reversed_there = verdict_of(0.4, name=name, sign=-1)
    assert reversed_there.outcome is Outcome.LEAK
    assert HINT in reversed_there.reasons[0]
    assert not any(HINT in reason for reason in verdict_of(0.4, name=name).reasons)


@pytest.mark.long
def test_sets_that_are_alike_rarely_look_exchanged() -> None:
    hints = sum(
        any(HINT in reason for reason in verdict_of(0, seed=seed).reasons) for seed in range(150)
    )
    assert 0 < hints / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5

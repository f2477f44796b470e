"""Figures of single sites compare like with like."""

from __future__ import annotations

import numpy as np

from audited_scores import plan_of, scored
from phoenix_secure.audit.details import strata
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.profiles import PROFILES
from phoenix_secure.audit.roles import draw_roles
from phoenix_secure.audit.target import Target
from phoenix_secure.data.bundled import load_digits
from phoenix_secure.rng import SeedTree


def test_a_site_of_hard_classes_does_not_look_exposed() -> None:
    digits = load_digits()
    members = digits.take(np.arange(700))
    sites = np.array([f"{label // 5}" for label in members.labels])
    images = AuditImages(
        members=members,
        non_members=digits.take(np.arange(700, 1400)),
        reference=None,
        member_sites=sites,
        num_duplicates=0,
    )
    roles = draw_roles(images, profile=PROFILES["smoke"], seeds=SeedTree(0))
    labels = roles.evaluation.records.labels
    # The score follows from the class alone, and each site holds five of the ten.
    scores = labels + np.random.default_rng(0).normal(0, 0.1, len(labels))
    target = Target(kind="run", sha256="", images=images)
    rows = strata(scored(scores), target=target, roles=roles, plan=plan_of(700), with_sites=True)
    of_sites = [row for row in rows if row.kind == "site"]
    assert [row.group for row in of_sites] == ["0", "1"]
    for row in of_sites:
        assert row.num_members == row.num_non_members > 50
        assert row.auc.low < 0.5 < row.auc.high

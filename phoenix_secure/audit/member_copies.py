"""Members that are copies of one another, or nearly so: a model memorises them first."""

from __future__ import annotations

import dataclasses

import numpy as np

from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.report import CopiesReport
from phoenix_secure.data.duplicates import find_duplicates

__all__ = ["member_copies"]


def member_copies(images: AuditImages) -> CopiesReport:
    """Copies among the members, and members and non-members that are nearly alike."""
    members, others = images.members, images.non_members
    alone = find_duplicates(dataclasses.replace(members, groups=None))
    together = dataclasses.replace(
        members,
        images=np.concatenate([members.images, others.images]),
        labels=None,
        class_names=(),
        groups=np.repeat(np.arange(2), [members.num_images, others.num_images]),
    )
    across = find_duplicates(together).is_across
    if across is None:
        raise AssertionError("expected two groups")
    return CopiesReport(
        num_members=members.num_images,
        exact=alone.exact,
        near=alone.near,
        across=int(across.sum()),
        others=others.num_images,
        alike_others=int(across[members.num_images :].sum()),
    )

"""The members that the best attack is surest of, and what else looks like them.

An exposed image with near neighbours among the members is exposed together with them: to remove one
of them does not help. One that is far from all others is an outlier, which models learn by heart
most easily (Carlini et al. 2022, arXiv:2112.03570, section VI). A sample near it is a copy that
anybody with the model can have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attacks.distances import k_nearest
from attacks.statistics.strata import worst_records
from phoenix_secure.audit.images import AuditImages
from phoenix_secure.audit.report import ExposedReport
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.scoring import Scored
from phoenix_secure.data.images import ImageSet, from_unit_range, to_unit_range

__all__ = ["NUM_NEIGHBOURS", "exposed_rows", "find_exposed"]

NUM_NEIGHBOURS = 3
_NUM_EXPOSED = 10
# Members whose distance to the next one says what is usual; all pairs of many would take minutes.
_NUM_TYPICAL = 500


def find_exposed(
    one: Scored,
    *,
    images: AuditImages,
    roles: Roles,
    samples: NDArray[np.float32] | None,
) -> tuple[ExposedReport, ...]:
    """The members with the highest scores of the attack ``one``, worst first, with neighbours.

    samples     (M, C, H, W) in [-1, 1], None where the audit made none
    """
    worst = worst_records(
        one.scores,
        membership=roles.evaluation.membership,
        k=min(_NUM_EXPOSED, len(roles.members)),
    )
    rows = roles.members[[record.index for record in worst]]
    members = _flat(images.members)
    scale = np.sqrt(members.shape[1])
    k = min(NUM_NEIGHBOURS, len(members) - 1)
    distances, indices = _other_members(members, rows, k=k)
    some = np.linspace(0, len(members) - 1, min(_NUM_TYPICAL, len(members))).astype(np.int64)
    typical, _ = _other_members(members, some, k=1)
    theirs = k_nearest(members[rows], pool=_flat(images.non_members))
    made = None
    if samples is not None and len(samples):
        made = k_nearest(members[rows], pool=samples.reshape(len(samples), -1))
    names, labels = images.members.class_names, images.members.labels
    return tuple(
        ExposedReport(
            index=int(row),
            p_adjusted=record.adjusted,
            class_name=None if labels is None else names[int(labels[row])],
            site=None if images.member_sites is None else str(images.member_sites[row]),
            nearest_members=tuple(map(int, indices[place])),
            member_distance=float(distances[place, 0] / scale),
            isolation=float((typical < distances[place, 0]).mean()),
            non_member_distance=float(theirs.distances[place, 0] / scale),
            sample_distance=None if made is None else float(made.distances[place, 0] / scale),
        )
        for place, (row, record) in enumerate(zip(rows, worst, strict=True))
    )


def exposed_rows(
    found: tuple[ExposedReport, ...],
    *,
    images: AuditImages,
    samples: NDArray[np.float32] | None,
) -> NDArray[np.uint8]:
    """The picture rows of ``exposed.png``: (rows, columns, C, H, W).

    Columns: the member, its nearest other members, its nearest non-member, its nearest sample
    (white where the audit made none).
    """
    members, others = images.members.images, images.non_members.images
    flat = _flat(images.members)[[each.index for each in found]]
    theirs = k_nearest(flat, pool=_flat(images.non_members)).indices[:, 0]
    made = np.full((len(found), *members.shape[1:]), 255, np.uint8)
    if samples is not None and len(samples):
        nearest = k_nearest(flat, pool=samples.reshape(len(samples), -1)).indices[:, 0]
        made = from_unit_range(samples[nearest])
    return np.stack(
        [
            np.stack(
                [
                    members[each.index],
                    *members[list(each.nearest_members)],
                    others[theirs[k]],
                    made[k],
                ]
            )
            for k, each in enumerate(found)
        ]
    )


def _other_members(
    members: NDArray[np.float32], rows: NDArray[np.int64], *, k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and indices (N, k) of the members nearest to those at ``rows``, without itself."""
    found = k_nearest(members[rows], pool=members, k=k + 1)
    # Among equal images itself may come anywhere, or not at all.
    last = np.argsort(found.indices == rows[:, None], axis=1, kind="stable")[:, :k]
    return (
        np.take_along_axis(found.distances, last, axis=1),
        np.take_along_axis(found.indices, last, axis=1),
    )


def _flat(image_set: ImageSet) -> NDArray[np.float32]:
    pixels = to_unit_range(image_set.images)
    return pixels.reshape(len(pixels), -1)

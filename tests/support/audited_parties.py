"""A pooled audit in memory: real sessions and files; sites enter the counts that they are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from phoenix_secure.data.site_images import SiteImages
from phoenix_secure.federation.secagg.pooled_layout import (
    NUM_FEATURES,
    POOLED_ATTACKS,
    AttackCounts,
    FeatureMoments,
    PooledCounts,
    PooledLayout,
    SideCounts,
)
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.federation.server.pooled_audit import PooledSum, PooledSums
from phoenix_secure.federation.site.pooled_audit import (
    AuditedImages,
    PooledAudit,
    SiteAudit,
    with_pooled_audit,
)
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.rng import SeedTree
from secure_parties import TIMEOUTS, Parties

CLASSES = ("bone", "lung", "skin")
_NOBODY = SiteImages(images=np.zeros((0, 1, 8, 8), np.uint8), labels=None)
Change = Callable[[PooledCounts], PooledCounts]


def random_counts(layout: PooledLayout, rng: np.random.Generator, *, size: int) -> PooledCounts:
    """Counts that an honest site may enter which has ``size`` members, and as many others, of each
    class (in all, without classes)."""

    def histogram(total: int) -> np.ndarray:
        return rng.multinomial(total, rng.dirichlet(np.ones(layout.num_bins))).astype(np.int64)

    num_classes = layout.num_classes
    classes = tuple(
        SideCounts(members=histogram(size), others=histogram(size)) for _ in range(num_classes)
    )
    total = size * max(1, num_classes)
    members, others = histogram(total), histogram(total)
    if classes:
        members = np.sum([side.members for side in classes], axis=0)
        others = np.sum([side.others for side in classes], axis=0)
    first = rng.binomial(others, 0.5)
    half = total // 2
    features = rng.integers(-127, 128, (total, NUM_FEATURES))
    return PooledCounts(
        answered=1,
        entered=1,
        able=np.ones(num_classes, np.int64),
        attacks=(
            AttackCounts(members=members, pseudo_members=first, pseudo_others=others - first),
            *(
                AttackCounts(
                    members=histogram(total),
                    pseudo_members=histogram(half),
                    pseudo_others=histogram(total - half),
                )
                for _ in POOLED_ATTACKS[1:]
            ),
        ),
        blind=SideCounts(members=histogram(total), others=histogram(total)),
        classes=classes,
        moments=FeatureMoments(
            count=total, total=features.sum(axis=0), products=features.T @ features
        ),
    )


class ToldExaminer:
    """Enters ``own`` (None: too few images), ``change`` of it in the second sum."""

    def __init__(self, own: PooledCounts | None) -> None:
        self.own = own
        self.change: Change = lambda counts: counts
        self.asked: list[tuple[int, ...]] = []
        self.seen: list[np.ndarray] = []

    def able(self, images: AuditedImages, *, layout: PooledLayout) -> PooledCounts:
        nobody = dataclasses.replace(layout.empty(), answered=1)
        if self.own is None:
            return nobody
        return dataclasses.replace(nobody, entered=1, able=self.own.able)

    def count(
        self,
        images: AuditedImages,
        *,
        layout: PooledLayout,
        parameters: np.ndarray,
        classes: frozenset[int],
    ) -> PooledCounts:
        self.asked.append(tuple(sorted(classes)))
        self.seen.append(parameters)
        if self.own is None:
            return dataclasses.replace(layout.empty(), answered=1)
        nothing = layout.empty().blind
        shown = tuple(
            side if number in classes else nothing for number, side in enumerate(self.own.classes)
        )
        return self.change(dataclasses.replace(self.own, classes=shown))


class AuditedParties(Parties):
    """Sites after one round of training, with counts of their own."""

    def __init__(self, path: Path, *overrides: str, num_sites: int = 5) -> None:
        super().__init__(
            path,
            *("secure_aggregation.broadcast=sum", "federation.rounds=1"),
            *("audit.at_sites=true", "audit.bins=8", "data.held_out=0.2"),
            f"data.class_names=[{','.join(CLASSES)}]",
            *overrides,
            num_sites=num_sites,
        )
        self.layout = PooledLayout.of(self.config)
        rng = np.random.default_rng(7)
        self.examiners = {
            name: ToldExaminer(random_counts(self.layout, rng, size=20 + 3 * place))
            for place, name in enumerate(self.names)
        }
        for name in self.names:
            SiteRecord.create(path / name / "audit.jsonl")
            self.with_audit(name)

    def with_audit(self, name: str) -> None:
        """Start the site ``name`` again, whose files stay."""
        site = self.sites[name]
        site.restart()
        place = self.path / name
        audit = PooledAudit.of(
            SiteAudit(
                examiner=self.examiners[name],
                held_out=_NOBODY,
                promises=SiteRecord(place / "audit.jsonl"),
                first=place / "audit-first.bin",
                out=place / "audits",
            ),
            _NOBODY,
            config=self.config,
            identity=self.identities[name],
            roster=self.roster,
            model=site._model(self, self.rule),
            seeds=SeedTree(0),
            note=site.note,
            epoch=lambda: self.epochs.get(name, self.epoch),
        )
        # The site's newest state is read when it is made.
        site.audit = audit
        site._answer = with_pooled_audit(site._answer, audit)

    def sums(self) -> PooledSums:
        """A server that has just been started."""
        return PooledSums(
            self.config,
            engine=self.engine,
            party=ServerParty(identity=self.server, roster=self.roster, round_roster=self.roster),
            chain=self.chain(),
            folder=self.path / "server",
            timeouts=TIMEOUTS,
            epoch=lambda: self.epoch,
        )

    def audit(self, sums: PooledSums | None = None) -> PooledSum:
        """Both sums."""
        stages = (sums or self.sums()).run()
        while True:
            try:
                self.stages.append(next(stages))
            except StopIteration as end:
                return end.value

    def in_the_clear(self, *names: str, by_class: bool = True) -> np.ndarray:
        """The sum of the words of ``names``, from plain Python integers."""
        total = [0] * self.layout.num_words
        for name in names or self.names:
            examiner = self.examiners[name]
            if examiner.own is None:
                continue
            shown = [
                side if by_class else self.layout.empty().blind for side in examiner.own.classes
            ]
            words = self.layout.to_words(dataclasses.replace(examiner.own, classes=tuple(shown)))
            total = [a + int(b) for a, b in zip(total, words, strict=True)]
        return np.array(total, np.int64)

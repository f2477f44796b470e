"""Permanent ledger of one site's releases under differential privacy: event first, release after.

One line of JSON for each release, in a file that only grows. A release that is sent again is the
same release; one that was recorded and never left counts all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import BudgetExhausted, DataError
from phoenix_secure.journal import Journal, create_file, json_line, json_object
from phoenix_secure.privacy.accounting import epsilon_of
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.events import Event, event_from_dict, event_to_dict, unit_of

__all__ = ["PrivacyLedger", "Release"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One release.

    id       names it; the same noised answer sent twice keeps its id
    plan     the run it belongs to
    data     keyed digest of the images it came from (``record_hashes.data_digest``)
    """

    id: str
    plan: str
    round_number: int
    data: str
    event: Event


class PrivacyLedger:
    """The file at ``path``. Every method is atomic over threads and processes.

    Raises:     CheckpointError where the file is missing or was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path, (_encode, _decode), follow=self._follow)
        self._releases: dict[str, Release] = {}
        self._journal.read_new()

    @classmethod
    def open(cls, path: Path) -> PrivacyLedger:
        """The ledger at ``path``; the first use makes it."""
        if not path.exists():
            create_file(path)
        return cls(path)

    def releases(self, *, plan: str | None = None) -> tuple[Release, ...]:
        """Everything recorded, oldest first; of one plan or of all."""
        with self._journal.caught_up():
            return tuple(
                each for each in self._releases.values() if plan is None or each.plan == plan
            )

    def events(self, *, plan: str | None = None) -> tuple[Event, ...]:
        """The events of ``releases``."""
        return tuple(each.event for each in self.releases(plan=plan))

    def check(self, release: Release, *, max_releases: int, total: Budget | None) -> None:
        """Refuse a release that the budget does not allow, before anything is computed for it.

        max_releases   that the plan's noise was calibrated for
        total          what all plans together may spend; None: no limit beyond each plan's own

        Raises:     BudgetExhausted; DataError when the plan began on other images.
        """
        with self._journal.caught_up():
            self._check(release, max_releases=max_releases, total=total)

    def charge(self, release: Release, *, max_releases: int, total: Budget | None) -> None:
        """Record ``release``; only then may it leave. The same id again changes nothing.

        Raises:     as ``check``; StorageError, and then it must not leave either.
        """
        with self._journal.caught_up():
            if release.id in self._releases:
                return
            self._check(release, max_releases=max_releases, total=total)
            self._journal.append(release)

    def _check(self, release: Release, *, max_releases: int, total: Budget | None) -> None:
        if release.id in self._releases:
            return
        of_plan = [each for each in self._releases.values() if each.plan == release.plan]
        if any(each.data != release.data for each in of_plan):
            raise DataError(
                "the images changed since this run's first release: the accounting holds for one "
                "data set; restore the images, or start a new run"
            )
        if any(each.event != release.event for each in of_plan):
            raise BudgetExhausted("this run's releases have another mechanism than the ledger's")
        if len(of_plan) >= max_releases:
            raise BudgetExhausted(
                f"all {max_releases} releases that this run's noise was made for are spent: "
                "the site stops"
            )
        if total is not None:
            events = [each.event for each in self._releases.values()] + [release.event]
            if len({unit_of(event) for event in events}) > 1:
                raise BudgetExhausted(
                    "the ledger holds releases under another unit, and epsilons of images, of "
                    "persons and of whole sites do not add up: the site stops"
                )
            spent = epsilon_of(events, delta=total.delta).value
            if spent > total.epsilon:
                raise BudgetExhausted(
                    f"another release would bring all runs on this site to epsilon {spent:.4g} at "
                    f"delta {total.delta:g}, above the site's {total.epsilon:g}: the site stops"
                )

    def _follow(self, release: Release) -> None:
        self._releases[release.id] = release


def _encode(release: Release) -> bytes:
    return json_line(
        {
            "kind": "release",
            "id": release.id,
            "plan": release.plan,
            "round": release.round_number,
            "data": release.data,
            "event": event_to_dict(release.event),
        }
    )


def _decode(line: bytes) -> Release:
    values = json_object(line)
    if values["kind"] != "release":
        raise ValueError("expected a known kind of line")
    return Release(
        id=str(values["id"]),
        plan=str(values["plan"]),
        round_number=int(values["round"]),
        data=str(values["data"]),
        event=event_from_dict(values["event"]),
    )

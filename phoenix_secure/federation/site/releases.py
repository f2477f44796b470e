"""A site's side of differential privacy: nothing leaves before its event is in the ledger.

::

    budget checked -> trained and noised -> kept on the disk -> event recorded -> answered

A site that is killed anywhere on this way goes on where it was: the kept answer is sent again under
its own event, and nothing is noised a second time. Answers are kept for one plan, round and model
(``kept_answers``), until the server has the result.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from phoenix_secure.errors import BudgetExhausted, TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.site.kept_answers import KeptAnswer, KeptAnswers
from phoenix_secure.privacy.budget import Budget
from phoenix_secure.privacy.ledger import PrivacyLedger, Release

__all__ = ["Releases"]


class Releases:
    """The releases of one site in one run.

    kept     the noised answers; for this site's eyes alone
    run      names the run in the ledger
    data     keyed digest of the images
    total    what all runs on this site together may spend
    """

    def __init__(
        self,
        ledger: PrivacyLedger,
        *,
        kept: KeptAnswers,
        run: str,
        plan: PrivacyPlan,
        data: str,
        total: Budget | None = None,
    ) -> None:
        self._ledger = ledger
        self._kept = kept
        self._run = run
        self._plan = plan
        self._data = data
        self._total = total
        self._open: tuple[int, str, str] | None = None  # round, model, id of a refused answer
        self._lock = threading.Lock()

    def prepare(self, round_number: int, *, model_hash: bytes, make: Callable[[], bytes]) -> bytes:
        """The answer for this round and model: the kept one, or ``make()``, then kept.

        Raises:     SiteFailure BUDGET, before anything is computed, where the budget allows no
                    release; DataError when the images changed; whatever ``make`` raises, recorded
                    where it tells of the images.
        """
        with self._lock:
            kept = self._kept.find(round_number, model=model_hash.hex())
            if kept is not None:
                return kept.body
            self._kept.forget()
            release = self._release(round_number, model_hash.hex())
            try:
                self._ledger.check(release, max_releases=self._plan.max_releases, total=self._total)
            except BudgetExhausted as error:
                raise SiteFailure(FailureCode.BUDGET, why=str(error)) from None
            try:
                body = make()
            except TrainingError:
                # That the noised weights were not finite is told: it is what they released.
                self._charge(release)
                self._open = None
                raise
            except SiteFailure:
                # A refusal is decided on the noised model, and tells of it; asked again, the site
                # answers with the same one.
                self._charge(release)
                raise
            self._kept.keep(
                KeptAnswer(
                    plan=self._run,
                    round_number=round_number,
                    model=model_hash.hex(),
                    id=release.id,
                    body=body,
                )
            )
            self._open = None
            return body

    def charge(self, round_number: int, *, model_hash: bytes) -> None:
        """Record that the prepared answer leaves; before it does.

        Raises:     SiteFailure BUDGET; it must not leave then.
        """
        with self._lock:
            kept = self._kept.find(round_number, model=model_hash.hex())
            if kept is None:
                raise ValueError("expected an answer that was prepared")
            self._charge(self._release(round_number, kept.model, id_of_kept=kept.id))

    def settle(self, round_number: int) -> None:
        """Delete the answer of ``round_number`` or an earlier one: its result is in safe hands."""
        with self._lock:
            self._kept.forget(round_number)

    def _charge(self, release: Release) -> None:
        try:
            self._ledger.charge(release, max_releases=self._plan.max_releases, total=self._total)
        except BudgetExhausted as error:
            raise SiteFailure(FailureCode.BUDGET, why=str(error)) from None

    def _release(self, round_number: int, model: str, *, id_of_kept: str = "") -> Release:
        if not id_of_kept and (self._open is None or self._open[:2] != (round_number, model)):
            self._open = round_number, model, os.urandom(16).hex()
        return Release(
            id=id_of_kept or (self._open[2] if self._open else ""),
            plan=self._run,
            round_number=round_number,
            data=self._data,
            event=self._plan.event,
        )

"""Makes what a site enters into one sum; nothing about the images decides whether it does.

A server that chooses the model could else ask a question of one site: weights with which certain
images overflow end in an answer or in an error. So a training that fails, whatever the reason, is
an input of zeros, and the site's own log alone says why. It stays one for the training round: two
sums of one round that differ in it could be subtracted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phoenix_secure.errors import PhoenixError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.secagg.payload import Payload, encode_sums, encode_update
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.site.exclusions import Note
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.residuals import Residuals
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.training.local import LocalUpdate
from phoenix_secure.training.steps import Cancelled
from protocol.entropy import Entropy

__all__ = ["SiteInput", "Train"]

_log = logging.getLogger(__name__)

Train = Callable[[TrainRequest], LocalUpdate | IntegerSums]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SiteInput:
    """The inputs of the site ``site``.

    rounding_key   32 bytes for the stochastic rounding of a training round
    noise_entropy  secret bytes for a round's noise under privacy unit ``site``
    residuals      what rounding left out of earlier answers; None without error feedback
    local_steps    of a round; counted for a failure under privacy unit ``site``, where they are
                   public
    note           writes to the site's own log
    """

    site: str
    terms: SecureTerms
    record: SiteRecord
    rounding_key: Callable[[int], bytes]
    noise_entropy: Callable[[int], Entropy]
    residuals: Residuals | None
    local_steps: int
    num_threads: int = 1
    note: Note = lambda event, **facts: None

    def make(self, request: TrainRequest, *, train: Train) -> Payload:
        """Train and encode.

        Guarantee:  an input, whatever ``train`` or the encoding raises.
        Raises:     Cancelled; SiteFailure ERROR where the training of a round fails that this site
                    has sent an input for: zeros could be subtracted from it.
        """
        number = request.round_number
        try:
            update = train(request)
            # Only now: a second failure must take as long as the first.
            if not self.record.has_failed(number):
                return self._encoded(update, request, residuals=self.residuals)
        except Cancelled:
            raise
        except Exception as error:
            if isinstance(error, PhoenixError):
                _log.warning("%s: training round %d failed: %s", self.site, number, error)
            else:
                _log.exception("%s: training round %d failed", self.site, number)
            why = f"round {number}: {type(error).__name__}"
            self.note("training-failed", why=why)  # what failed is for the owner alone
            if self.record.has_sent(number) and not self.record.has_failed(number):
                raise SiteFailure(
                    FailureCode.ERROR, why=f"training round {number} failed when it was repeated"
                ) from None
            self.record.fail(number)
        _log.warning("%s: training round %d enters zeros", self.site, number)
        return self._encoded(self._failure, request, residuals=None)

    @property
    def _failure(self) -> LocalUpdate | IntegerSums:
        if self.terms.grid is not None:
            return IntegerSums(words=np.zeros(self.terms.num_words, np.int64))
        return LocalUpdate(
            delta=np.zeros(self.terms.num_parameters, np.float32),
            num_images=1,
            num_steps=self.local_steps,
            loss=0.0,
            seconds=0.0,
            failed=True,
        )

    def _encoded(
        self,
        update: LocalUpdate | IntegerSums,
        request: TrainRequest,
        *,
        residuals: Residuals | None,
    ) -> Payload:
        number = request.round_number
        if isinstance(update, IntegerSums):
            return encode_sums(update, terms=self.terms, entropy=self.noise_entropy(number))
        residual = None
        if residuals is not None:
            residual = residuals.before(number, size=self.terms.num_parameters)
        payload = encode_update(
            update,
            terms=self.terms,
            rounding_key=self.rounding_key(number),
            entropy=self.noise_entropy(number),
            residual=residual,
            clip_factor=request.clip_factor,
            num_threads=self.num_threads,
        )
        if residuals is not None and payload.residual is not None:
            residuals.save(number, payload.residual)
        return payload

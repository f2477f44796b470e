"""The stage in which a site signs the server's tree head, before whatever else it answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from phoenix_secure.evidence.witness import Forked, Witness
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.stages import WITNESS_STAGE

__all__ = ["with_witness"]

_log = logging.getLogger(__name__)

Handler = Callable[[str, bytes], bytes]


def with_witness(
    handle: Handler, witness: Witness, *, settle: Callable[[], object] = lambda: None
) -> Handler:
    """``handle``, preceded by the witness's own stage.

    ``settle`` is called once the site has signed a head: a server shows one when the round before
    is on its disk.
    """

    def answer(stage: str, body: bytes) -> bytes:
        if stage != WITNESS_STAGE:
            return handle(stage, body)
        try:
            signed = witness.handle(body)
        except Forked as error:
            _log.error("the server rewrote its evidence: %s", error)
            raise SiteFailure(FailureCode.REFUSED) from None
        except ValueError:
            raise SiteFailure(FailureCode.MALFORMED) from None
        settle()
        return signed

    return answer

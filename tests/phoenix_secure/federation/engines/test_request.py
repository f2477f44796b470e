"""What leaves a site when its handler fails: a code; the reason stays in its own log."""

from __future__ import annotations

import logging

import pytest

from phoenix_secure.errors import StorageError
from phoenix_secure.federation.engines.exchange import Failure, FailureCode
from phoenix_secure.federation.engines.request import SiteRequest, answer

REQUEST = SiteRequest(site="site-01", session="", stage="train", body=b"")


@pytest.mark.parametrize("error", [StorageError("disk full while writing x"), ValueError("y")])
def test_a_failure_leaves_as_a_code(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: SiteRequest) -> bytes:
        raise error

    with caplog.at_level(logging.ERROR):
        found = answer(fail, REQUEST)
    assert found == Failure(code=FailureCode.ERROR)
    (record,) = caplog.records
    # One line where the reason is known, and where it is not, all that is to find it.
    assert (record.exc_info is None) == isinstance(error, StorageError)
    assert "disk full" in record.getMessage() or record.exc_info is not None

"""Errors say who is to blame and what it means for the session."""

import pytest

from protocol.errors import (
    AbortReason,
    LocalProtocolError,
    Misbehaviour,
    ProtocolError,
    RemoteProtocolError,
    SessionAborted,
)


def test_the_root_cannot_be_raised_itself():
    with pytest.raises(TypeError, match="abstract"):
        ProtocolError("x")


def test_all_kinds_share_the_root():
    for kind in (LocalProtocolError, RemoteProtocolError, SessionAborted):
        assert issubclass(kind, ProtocolError)


def test_a_remote_error_reads_as_one_line_with_the_culprit_first():
    error = RemoteProtocolError("site-2", Misbehaviour.BAD_SHARE, "share of site-1")
    assert str(error) == "site-2: share does not match its commitment (share of site-1)"


def test_an_abort_names_the_culprits_and_forbids_a_retry_unless_told_otherwise():
    error = SessionAborted(AbortReason.DEALER_MISBEHAVED, culprits=("site-2",))
    assert str(error) == "a site dealt unusable shares; at fault: site-2"
    assert not error.retry_allowed


def test_reasons_are_distinct():
    for reasons in (Misbehaviour, AbortReason):
        assert len({reason.value for reason in reasons}) == len(reasons.__members__)

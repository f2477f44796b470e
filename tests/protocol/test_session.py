"""What both kinds of session have in common."""

import pytest

from protocol.errors import AbortReason, SessionAborted
from protocol.session import Aborted, Move, Session, State


class First(State):
    pass


class Last(State):
    pass


TABLE = {(First, "go"): Move(handler=None, to=(Last,))}


def test_a_session_is_over_where_the_table_has_no_way_out():
    assert not Session(First(), table=TABLE).is_over
    assert Session(Last(), table=TABLE).is_over


def test_a_state_that_the_table_does_not_allow_is_our_own_bug():
    session = Session(First(), table=TABLE)
    with pytest.raises(AssertionError, match="does not allow First"):
        session._enter(First(), TABLE[First, "go"])


def test_an_aborted_state_raises_the_same_error_again():
    error = SessionAborted(
        AbortReason.TOO_FEW_CLIENTS, "3 of 4", culprits=("a",), retry_allowed=True
    )
    again = Aborted.by(error).error()
    assert str(again) == str(error)
    assert (again.reason, again.culprits, again.retry_allowed) == (error.reason, ("a",), True)


def test_aborting_twice_is_harmless():
    session = Session(First(), table=TABLE)
    session.abort()
    session.abort()
    assert session.state == "Aborted"
    assert repr(session) == "<Session Aborted>"

"""How long a site's message may be in each stage: enough for every honest one, and hardly more."""

import dataclasses

import pytest

from protocol.messages import AdvertiseKeys, Complaint, MaskedInput
from protocol.messages.limits import reply_limits

STAGES = ("announce", "share", "mask", "check", "unmask")


def sizes(attempt, *, absent=None):
    """The longest message of each stage, and what the server allowed there."""
    allowed = []
    gone = set()
    for stage in range(len(STAGES)):
        allowed.append(attempt.server.reply_limit)
        gone |= set((absent or {}).get(stage, ()))
        attempt.step(absent=gone)
    sent = [0] * len(STAGES)
    for stage, _, _, data in attempt.log:
        sent[stage] = max(sent[stage], len(data))
    return sent, allowed


@pytest.mark.parametrize(
    "how", [{}, {"num_sites": 9, "word_bits": 16, "scale": 20.0}, {"num_words": 4000}]
)
def test_honest_messages_fit_their_stage_and_leave_no_room(federation, simulation, how):
    sent, allowed = sizes(simulation.Round(federation(**how)))
    # Of a dealer's own item nothing is sealed; a complaint may take the place of a short input.
    slack = [0, 92, max(0, allowed[2] - sent[2]), 0, 0]
    assert sent == [limit - room for limit, room in zip(allowed, slack, strict=True)]


def test_fewer_survivors_make_messages_shorter_never_longer(federation, simulation):
    members = federation(7)
    sent, allowed = sizes(simulation.Round(members), absent={2: [members.ids[0]]})
    assert all(one <= most for one, most in zip(sent, allowed, strict=True))


def test_announcement_is_answered_within_a_few_hundred_bytes(federation):
    limits = reply_limits(federation(40, num_words=100_000).spec)
    assert limits[AdvertiseKeys.LABEL] < 300
    assert limits[MaskedInput.LABEL] > 400_000


def test_limit_is_that_of_the_longest_id(federation):
    members = federation()
    longer = tuple(sorted([*members.ids[1:], "x" * 64]))
    spec = dataclasses.replace(members.spec, cohort=longer)
    grown = (
        reply_limits(spec)[AdvertiseKeys.LABEL] - reply_limits(members.spec)[AdvertiseKeys.LABEL]
    )
    assert grown == 64 - len(members.ids[0])


def test_complaints_fit_beside_the_shortest_input(federation, simulation, liars):
    members = federation(num_words=1, extra_bounds=())
    attempt = simulation.Round(members)
    attempt.step()
    attempt.step()
    id, accused = members.ids[:2]
    complaint, _ = liars.false_complaint(
        members, attempt.clients[id], attempt.outbound[id], accused
    )
    message = liars.complaint_message(
        members, complaint, id, attempt.answer(id, attempt.outbound[id])
    )
    assert len(message) <= attempt.server.reply_limit == reply_limits(members.spec)[Complaint.LABEL]


def test_nothing_is_expected_before_the_start_and_after_the_end(federation, simulation):
    members = federation()
    assert members.server().reply_limit == 0
    attempt = simulation.Round(members)
    attempt.run()
    assert attempt.server.reply_limit == 0

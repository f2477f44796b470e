"""Attack 5: replay a round to a site that was restarted and has only its disk to remember by."""

import pytest

from protocol.counter import InMemoryRoundCounter
from protocol.errors import AbortReason, Misbehaviour, RemoteProtocolError, SessionAborted


class CounterOnDisk(InMemoryRoundCounter):
    """A counter whose memory is a file, as the application's is."""

    def __init__(self, path):
        super().__init__(int(path.read_text()) if path.exists() else -1)
        self.path = path

    def record_signed_round(self, round_number, survivors):
        if not super().record_signed_round(round_number, survivors):
            return False
        self.path.write_text(str(round_number))
        return True


@pytest.fixture
def members(federation, tmp_path):
    found = federation()
    found.restart = lambda: {id: CounterOnDisk(tmp_path / id) for id in found.ids}
    found.counters = found.restart()
    return found


def test_a_signed_round_is_refused_after_a_restart(hostile, members):
    hostile(members).join().deal().mask().sign()
    members.counters = members.restart()
    replay = hostile(members)
    for client in replay.clients.values():
        with pytest.raises(RemoteProtocolError) as caught:
            client.receive(replay.offer())
        assert caught.value.reason is Misbehaviour.ROUND_REPLAYED
        assert client.state == "Idle"


def test_an_older_round_is_refused_too(hostile, members):
    hostile(members).join().deal().mask().sign()
    older = members.offer(round=members.spec.round - 1)
    with pytest.raises(RemoteProtocolError) as caught:
        members.client(members.ids[0]).receive(older)
    assert caught.value.reason is Misbehaviour.ROUND_REPLAYED


def test_the_round_is_on_disk_before_the_signature_exists(hostile, members):
    class DiskFull(CounterOnDisk):
        def record_signed_round(self, round_number, survivors):
            raise OSError("disk full")

    first = members.ids[0]
    members.counters[first] = DiskFull(members.counters[first].path)
    server = hostile(members).join().deal().mask()
    with pytest.raises(OSError, match="disk full"):
        server.clients[first].receive(server.survivors(members.ids))
    assert server.clients[first].state == "Aborted"
    with pytest.raises(SessionAborted):
        server.clients[first].receive(server.survivors(members.ids))


def test_a_process_that_signed_meanwhile_keeps_this_one_from_signing(hostile, members):
    server = hostile(members).join().deal().mask()
    first = members.ids[0]
    members.counters[first].record_signed_round(members.spec.round, members.spec.cohort)
    with pytest.raises(SessionAborted) as caught:
        server.clients[first].receive(server.survivors(members.ids))
    assert caught.value.reason is AbortReason.ROUND_ALREADY_SIGNED
    assert server.clients[first].state == "Aborted"

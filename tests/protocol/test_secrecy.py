"""Nothing secret shows: not in a repr, an exception, a log or a pickle, nor in a later state."""

import copy
import gc
import logging
import pickle
import traceback

import numpy as np
import pytest

from protocol import ProtocolError, SessionAborted, labels
from protocol.entropy import insecure_counter_entropy
from protocol.keys import secret_scalar
from protocol.messages import Envelope
from protocol.secrecy import NoCopies

ME = "site-000"


class Recorder:
    """An entropy source that remembers what it gave out: the canaries."""

    def __init__(self):
        self._source = insecure_counter_entropy(b"canary")
        self.drawn = []

    def __call__(self, size):
        self.drawn.append(self._source(size))
        return self.drawn[-1]

    @property
    def seeds(self):
        """a_u, b_u, the channel key, and every polynomial coefficient's bytes."""
        return [value for value in self.drawn if len(value) != 12]


def reachable_bytes(root):
    """Every bytes-like value that can be reached from ``root`` (code and modules left out)."""
    seen, front, found = set(), [root], []
    while front:
        thing = front.pop()
        if id(thing) in seen or isinstance(thing, (type, type(np), type(reachable_bytes))):
            continue
        seen.add(id(thing))
        if isinstance(thing, (bytes, bytearray, memoryview)):
            found.append(bytes(thing))
        elif isinstance(thing, np.ndarray):
            found.append(thing.tobytes())
        elif isinstance(thing, int):
            found.append(thing.to_bytes((thing.bit_length() + 15) // 8, "big", signed=True))
        front.extend(gc.get_referents(thing))
    return found


def canary_round(simulation, federation):
    """A round in which ``ME`` draws from a recorder that no session state refers to by value."""
    members = federation(num_words=64)
    recorder = Recorder()
    # A bound method of a plain class: reached objects include the recorder, so hide its list.
    drawn = recorder.drawn
    clients = {id: members.client(id) for id in members.ids}
    clients[ME] = members.client(ME, entropy=lambda size: recorder(size))
    return simulation.Round(members, clients=clients), recorder, drawn


def leaks(client, canaries):
    """How many canaries can be reached from the session without its entropy source."""
    site = client._site
    values = reachable_bytes(client._state) + reachable_bytes(client._seen)
    values += [bytes(value) for value in (site.identity.public_key, site.previous or b"")]
    return sum(any(canary in value for value in values) for canary in canaries)


def test_secrets_are_dropped_state_by_state(simulation, federation):
    attempt, recorder, _ = canary_round(simulation, federation)
    client = attempt.clients[ME]
    input_bytes = attempt.federation.words(ME).tobytes()
    attempt.step()
    mask_seed, self_seed, channel_seed = recorder.seeds[:3]
    context = attempt.federation.spec.context
    mask_secret, self_secret, channel_secret = (
        secret_scalar(seed, context=context, label=label)
        for seed, label in (
            (mask_seed, labels.MASK_SECRET),
            (self_seed, labels.SELF_SECRET),
            (channel_seed, labels.CHANNEL_SECRET),
        )
    )
    seeds = [mask_seed, self_seed, channel_seed]
    secrets = [mask_secret, self_secret, channel_secret]
    # The search itself works: what the state needs is found.
    assert leaks(client, [*secrets, input_bytes]) == 4
    assert leaks(client, seeds) == 0
    attempt.step()
    assert leaks(client, [*secrets, input_bytes]) == 4
    attempt.step()
    assert leaks(client, [*seeds, *secrets, input_bytes]) == 0
    held = [share for pair in client._state.held.values() for share in pair]
    assert leaks(client, held) == 10
    attempt.step()
    of_mask, of_self = held[0::2], held[1::2]
    # U3 is everybody: the mask-key shares are gone, the self-mask shares wait for the quorum.
    assert leaks(client, of_mask) == 0
    assert leaks(client, of_self) == 5
    attempt.step()
    assert leaks(client, recorder.seeds + held + [input_bytes]) == 0
    attempt.run()
    assert leaks(client, recorder.seeds + held + [input_bytes]) == 0


@pytest.mark.parametrize("stage", range(1, 5))
def test_an_abort_drops_every_secret(simulation, federation, stage):
    attempt, recorder, _ = canary_round(simulation, federation)
    for _ in range(stage):
        attempt.step()
    client = attempt.clients[ME]
    held = list(getattr(client._state, "held", {}).values())
    data = attempt.outbound[ME]
    with pytest.raises(SessionAborted) as caught:
        client.receive(attempt.federation.reseal("server", data, body=b""))
    secrets = recorder.seeds + [share for pair in held for share in pair]
    assert leaks(client, secrets) == 0
    # The exception keeps no frame alive in which the old state is a local variable.
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    names = {
        name
        for frame in frames
        for name in frame.f_locals
        if "protocol/" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename
    }
    assert "state" not in names
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("stage", range(6))
def test_reprs_pickles_and_copies_show_nothing(simulation, federation, stage):
    attempt, recorder, _ = canary_round(simulation, federation)
    for _ in range(stage):
        attempt.step()
    client = attempt.clients[ME]
    shown = "".join(
        str(form(thing))
        for form in (repr, str, "{}".format)
        for thing in (client, client._state, client._site, attempt.server, attempt.server._state)
    )
    for secret in [*recorder.seeds, attempt.federation.identities[ME].export_seed()]:
        for text in (secret.hex(), repr(secret), str(int.from_bytes(secret, "big"))):
            assert text not in shown
    for thing in (client, client._state, client._site, attempt.server, attempt.server._state):
        assert isinstance(thing, NoCopies)
        for attempt_copy in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                attempt_copy(thing)


def test_no_exception_or_log_of_a_hostile_round_shows_a_secret(
    simulation, federation, caplog, capsys
):
    """Every message of a round is broken in turn; all that people could see is searched."""
    caplog.set_level(logging.DEBUG)
    attempt, recorder, _ = canary_round(simulation, federation)
    seen = []

    def try_all(receive, data, who):
        envelope = Envelope.parse(data, peer=who, max_size=len(data))
        body = bytes(envelope.body)
        lies = [members.reseal(who, data, body=body[:-1])] if who != "server" else []
        for bad in [data[:-1], data[:40], data + b"x", *lies]:
            try:
                receive(bad)
            except ProtocolError as error:
                seen.append("".join(traceback.format_exception(error)) + repr(error))

    members = attempt.federation
    for _ in range(5):
        replies = {}
        for id, data in attempt.outbound.items():
            try_all(attempt.clients[id].receive, data, "server")
            replies[id] = attempt.answer(id, data)
        last = members.ids[-1]
        for id, data in replies.items():
            attempt.server.receive(id, data)
        try_all(lambda bad, to=last: attempt.server.receive(to, bad), replies[last], last)
        attempt.outbound = attempt.server.close_stage().outbound
    shown = "".join(seen) + caplog.text + "".join(capsys.readouterr())
    assert len(seen) > 50
    secrets = [*recorder.seeds, *(who.export_seed() for who in members.identities.values())]
    for secret in secrets:
        for text in (secret.hex(), repr(secret)[2:-1], str(int.from_bytes(secret, "big"))):
            assert text not in shown


def test_events_show_nothing_that_is_not_public(simulation, federation):
    attempt, recorder, _ = canary_round(simulation, federation)
    attempt.run()
    shown = repr([events for who, events in attempt.events if who != "server"])
    assert all(secret.hex() not in shown and repr(secret) not in shown for secret in recorder.seeds)
    assert repr(attempt.federation.words(ME))[7:20] not in shown

"""Attack 23: take a site over, or read its logs, after it has unmasked: what is left to find?"""

import gc
import logging
import pickle
import traceback
import types

import numpy as np
import pytest

from protocol import ProtocolError, keys, labels
from protocol.entropy import insecure_counter_entropy
from protocol.messages import (
    KeyDirectory,
    ShareDelivery,
    SignatureQuorum,
    SurvivorList,
    seal,
)

SITE = "site-000"
STAGES = ("join", "deal", "mask", "sign", "unmask")
NEXT_MESSAGE = {
    "join": KeyDirectory,
    "deal": ShareDelivery,
    "mask": SurvivorList,
    "sign": SignatureQuorum,
}


def run(server, until):
    """The honest stages up to and including ``until``."""
    for stage in STAGES[: STAGES.index(until) + 1]:
        getattr(server, stage)()
    return server


def secrets_of(server):
    """Every seed, private key and mask key that the site ever held, and its input."""
    drawn = insecure_counter_entropy(server.federation.seed + b"/round/0/" + SITE.encode())
    a, b, c = (drawn(32) for _ in range(3))
    members, h1, h2 = server.public_keys(), server.h1, server.h2(server.federation.ids)
    mask = keys.KeyPair(keys.secret_scalar(a, context=server.context, label=labels.MASK_SECRET))
    self_secret = keys.secret_scalar(b, context=server.context, label=labels.SELF_SECRET)
    channel = keys.KeyPair(
        keys.secret_scalar(c, context=server.context, label=labels.CHANNEL_SECRET)
    )
    assert (members[SITE].mask, members[SITE].channel) == (mask.public, channel.public)
    found = {
        "mask seed": a,
        "self-mask seed": b,
        "channel seed": c,
        "channel secret": channel.secret,
        "mask secret": mask.secret,
        "self-mask secret": self_secret,
        "self-mask key": keys.self_key(self_secret, id=SITE, h2=h2),
    }
    for v in members.keys() - {SITE}:
        found[f"mask key with {v}"] = keys.pair_key(mask, own_id=SITE, peer=members[v], h2=h2)
        for sender, receiver in ((SITE, v), (v, SITE)):
            found[f"channel key {sender} to {receiver}"] = keys.channel_key(
                channel, sender=members[sender], receiver=members[receiver], h1=h1
            )
    words = server.federation.words(SITE)
    return found | {f"input as {t}": words.astype(t).tobytes() for t in ("i4", "i8", "f4", "f8")}


def reachable(*roots):
    """All bytes, arrays, texts and integers that objects lead to, fields and slots included."""
    no_data = (type, types.ModuleType, types.FunctionType, types.FrameType, types.TracebackType)
    seen, todo, found = set(), list(roots), []
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, no_data):
            continue
        seen.add(id(thing))
        match thing:
            case bytes() | bytearray() | memoryview():
                found.append(bytes(thing))
            case np.ndarray() if thing.dtype != object:
                found.append(thing.tobytes())
            case str():
                found.append(thing.encode())
            case int():
                found.append(abs(thing).to_bytes(thing.bit_length() // 8 + 1, "big"))
            case _:
                todo.extend(gc.get_referents(thing))
    return found


def found_in(buffers, secrets):
    """Which secrets occur, raw, in hexadecimal or as Python writes bytes."""
    return {
        name
        for name, secret in secrets.items()
        for form in (secret, secret.hex().encode(), repr(secret)[2:-1].encode())
        if any(form in data for data in buffers)
    }


def test_the_search_finds_secrets_where_they_still_are(hostile):
    server = run(hostile(), "join")
    left = found_in(reachable(server.clients[SITE]._state), secrets_of(server))
    assert left == {"mask secret", "self-mask secret", "channel secret", "input as i4"}


def test_nothing_secret_is_left_after_unmasking(hostile):
    server = run(hostile(), "unmask")
    client = server.clients[SITE]
    secrets = secrets_of(server)
    secrets |= {f"share of {s.dealer}": s.share for s in server.revealed[SITE]}
    assert found_in(reachable(client._state, client._seen), secrets) == set()


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("deal", {"mask secret", "self-mask secret", "channel secret", "input as i4"}),
        ("mask", set()),
        ("sign", set()),
    ],
)
def test_what_is_spent_is_dropped_at_once(hostile, stage, left):
    server = run(hostile(), stage)
    assert found_in(reachable(server.clients[SITE]._state), secrets_of(server)) == left


@pytest.mark.parametrize("stage", NEXT_MESSAGE)
def test_an_abort_leaves_nothing_and_its_error_shows_nothing(hostile, stage):
    server = run(hostile(), stage)
    client = server.clients[SITE]
    wrong = seal(
        server.federation.server_identity,
        label=NEXT_MESSAGE[stage].LABEL,
        context=server.context,
        body=b"no such body",
    )
    with pytest.raises(ProtocolError) as caught:
        client.receive(wrong)
    secrets = secrets_of(server)
    assert found_in(reachable(client._state), secrets) == set()
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    # The frames that the exception keeps alive hold nothing either, but for this test's own.
    frames = [entry.frame.f_locals for entry in caught.traceback[1:]]
    for chained in (caught.value.__context__, caught.value.__cause__):
        frames += [
            frame.f_locals for frame, _ in traceback.walk_tb(chained and chained.__traceback__)
        ]
    assert frames
    assert found_in([text.encode(), *reachable(*frames)], secrets) == set()


def test_nothing_is_logged_printed_or_pickled(hostile, caplog, capsys):
    with caplog.at_level(logging.DEBUG):
        server = run(hostile(), "unmask")
    assert not caplog.records
    assert capsys.readouterr() == ("", "")
    for client in server.clients.values():
        with pytest.raises(TypeError, match="secrets"):
            pickle.dumps(client)


@pytest.mark.parametrize("stage", STAGES)
def test_no_repr_shows_a_secret(hostile, stage):
    server = run(hostile(), stage)
    client = server.clients[SITE]
    parts = [client._state, client._site, *gc.get_referents(client._state)]
    shown = [f"{client!r} {client}".encode()]
    # Containers would print what is in them: only the protocol's own objects are asked.
    shown += [repr(p).encode() for p in parts if type(p).__module__.startswith("protocol")]
    assert len(shown) >= 3
    assert found_in(shown, secrets_of(server)) == set()


def test_no_message_holds_a_secret_in_clear(hostile):
    server = run(hostile(), "sign")
    sent = [
        server.ads[SITE],
        server.dealt[SITE].encode(),
        bytes(server.uploads[SITE].packed),
        server.signatures[SITE],
    ]
    secrets = secrets_of(server)
    held = server.clients[SITE]._state.reveal
    secrets |= {f"share of {share.dealer}": share.share for share in held}
    assert found_in(sent, secrets) == set()

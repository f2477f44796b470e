"""A mutator of messages and a corpus of honest ones."""

from __future__ import annotations

import random

import pytest

LENGTHS = (0, 1, 2, 31, 32, 33, 64, 94, 255, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


class Mutator:
    """Changes bytes as a hostile or broken peer might; reproducible by its seed."""

    def __init__(self, seed, corpus):
        self.rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.corpus = corpus
        self.changes = (
            self.flip,
            self.overwrite,
            self.insert,
            self.delete,
            self.repeat,
            self.truncate,
            self.extend,
            self.splice,
            self.length,
            self.number,
        )

    def mutate(self, data):
        """``data`` after one to four changes; now and then something made of nothing."""
        if self.rng.random() < 0.02:
            return self.rng.randbytes(self.rng.choice((0, 1, 4, 40, 400)))
        data = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
            self.rng.choice(self.changes)(data)
        return bytes(data)

    def place(self, data):
        return self.rng.randrange(len(data) + 1)

    def flip(self, data):
        if data:
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)

    def overwrite(self, data):
        at = self.place(data)
        data[at : at + 4] = self.rng.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * 4

    def insert(self, data):
        data[(at := self.place(data)) : at] = self.rng.randbytes(self.rng.randrange(1, 9))

    def delete(self, data):
        del data[(at := self.place(data)) : at + self.rng.randrange(1, 40)]

    def repeat(self, data):
        at, size = self.place(data), self.rng.randrange(1, 64)
        data[at:at] = data[at : at + size] * self.rng.choice((1, 1, 3))

    def truncate(self, data):
        del data[self.place(data) :]

    def extend(self, data):
        data += self.rng.randbytes(self.rng.choice((1, 4, 100)))

    def splice(self, data):
        other = self.rng.choice(self.corpus)
        start = self.rng.randrange(len(other) + 1)
        at = self.place(data)
        data[at : at + self.rng.randrange(64)] = other[start : start + self.rng.randrange(64)]

    def length(self, data):
        """A length prefix, where the bytes look like one, set to an extreme or off by one."""
        starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\x00\x00\x00"]
        at = self.rng.choice(starts) if starts else self.place(data)
        old = int.from_bytes(data[at : at + 4], "big")
        new = self.rng.choice((*LENGTHS, old + 1, max(old - 1, 0), len(data)))
        data[at : at + 4] = (new % 2**32).to_bytes(4, "big")

    def number(self, data):
        """Eight bytes that are an extreme integer or float."""
        at = self.place(data)
        data[at : at + 8] = self.rng.choice(
            (
                b"\xff" * 8,
                b"\x80" + b"\x00" * 7,
                b"\x7f\xf0" + b"\x00" * 6,
                b"\x7f\xf8" + b"\x00" * 6,
                b"\x7f\xef" + b"\xff" * 6,
                b"\x00" * 7 + b"\x01",
                b"\x3f\xf0" + b"\x00" * 6,
            )
        )


class Recorded:
    """An honest round: what each side was sent, and the sessions just before they took it."""

    def __init__(self, simulation):
        self.members = simulation.Federation(num_words=19)
        self.round = simulation.Round(self.members)
        self.site = self.members.ids[0]
        self.to_client, self.to_server = [], []
        self.client, self.server = self.round.clients[self.site], self.round.server
        for stage in range(5):
            before_client = snapshot(self.client)
            message = self.round.outbound[self.site]
            answers = {id: self.round.answer(id, d) for id, d in self.round.outbound.items()}
            self.to_client.append((before_client, message))
            self.to_server.append((snapshot(self.server), answers[self.site]))
            for id, answer in answers.items():
                self.server.receive(id, answer)
            self.round.outbound = self.server.close_stage().outbound
            self.round.stage = stage + 1
        self.to_client.append((snapshot(self.client), self.round.outbound[self.site]))
        self.corpus = [m for _, m in (*self.to_client, *self.to_server)]
        self.corpus.append(self.members.roster.sign(self.members.owner))


def snapshot(session):
    """A function that puts ``session`` back to how it is now, arrays included."""
    slots = [name for name in ("_state", "_seen", "_excluded") if hasattr(session, name)]
    values = {
        name: dict(v) if isinstance(v := getattr(session, name), dict) else v for name in slots
    }
    found = (getattr(session._state, name, None) for name in ("vector", "accumulator"))
    parts = (each if isinstance(each, tuple) else (each,) for each in found if each is not None)
    arrays = [(array, array.copy()) for each in parts for array in each]

    def restore():
        for name, value in values.items():
            setattr(session, name, dict(value) if isinstance(value, dict) else value)
        for array, copy in arrays:
            if array.flags.writeable:
                array[:] = copy

    return restore


@pytest.fixture(scope="session")
def recorded(simulation):
    """One honest round of five sites."""
    return Recorded(simulation)


@pytest.fixture
def mutator(recorded):
    """Makes a ``Mutator`` with a seed."""
    return lambda seed: Mutator(seed, recorded.corpus)

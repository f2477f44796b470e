"""The specification of a round: one encoding, one context, and no sum that could wrap around."""

import dataclasses
import hashlib

import pytest

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.parameters import choose, max_input, skellam_tail
from protocol.spec import RoundSpec
from protocol.suite import Suite


@pytest.fixture
def spec(federation):
    return federation().spec


OTHER = {
    "federation_id": "clinics",
    "round": 4,
    "attempt": 1,
    "roster_hash": bytes(32),
    "cohort": ("a", "b", "c", "d", "e"),
    "model_hash": bytes(32),
    "previous": bytes(32),
    "num_words": 20,
    "extra_bounds": (7, 9),
    "word_bits": 24,
    "scale": 51.0,
    "clip": 2.5,
    "threshold": None,
    "quorum": None,
    "num_colluders": None,
    "degree": None,
    "noise_variance": 1.0,
    "privacy_hash": bytes(32),
    "policy_hash": bytes(32),
    "suite": Suite.HYBRID_PQ,
}


def test_the_encoding_gives_every_field_back(spec):
    assert RoundSpec.decode(spec.encode(), peer="server") == spec


def test_the_context_changes_with_every_field(federation, spec):
    fields = {field.name for field in dataclasses.fields(RoundSpec)}
    assert fields == OTHER.keys()
    contexts = {
        dataclasses.replace(spec, **{name: value}).context
        for name, value in OTHER.items()
        if value is not None
    }
    # t, quorum, c and degree hang together; each of these differs from the base in one of them.
    ten = federation(10)
    contexts |= {
        dataclasses.replace(spec, threshold=5, quorum=5).context,
        dataclasses.replace(ten.spec, num_colluders=1).context,
        ten.spec.context,
        dataclasses.replace(ten.spec, degree=8).context,
        dataclasses.replace(ten.spec, degree=8, threshold=6).context,
    }
    assert len(contexts | {spec.context}) == 16 + 5 + 1


def test_the_context_binds_the_suite(spec):
    assert spec.context != hashlib.sha256(spec.encode()).digest()


def test_the_next_attempt_has_a_new_context(spec):
    again = spec.next_attempt(cohort=spec.cohort)
    assert (again.round, again.attempt) == (spec.round, spec.attempt + 1)
    assert again.context != spec.context


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cohort": ("b", "a", "c", "d", "e")}, "sorted"),
        ({"cohort": ("a", "a", "b", "c", "d")}, "distinct"),
        ({"cohort": ("a",)}, "2 to"),
        ({"cohort": ("a", "b c", "d", "e", "f")}, "an id"),
        ({"federation_id": ""}, "an id"),
        ({"roster_hash": bytes(31)}, "roster_hash"),
        ({"model_hash": b""}, "model_hash"),
        ({"previous": bytes(33)}, "previous"),
        ({"privacy_hash": b""}, "privacy_hash"),
        ({"policy_hash": b""}, "policy_hash"),
        ({"round": -1}, "round"),
        ({"attempt": -1}, "attempt"),
        ({"num_words": 0}, "num_words"),
        ({"num_words": 10**10}, "num_words"),
        ({"extra_bounds": (1,) * 2000}, "extra words"),
        ({"extra_bounds": (0,)}, "sums"),
        ({"word_bits": 1}, "word_bits"),
        ({"word_bits": 8}, "word_bits"),
        ({"scale": 0.0}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 1e300, "clip": 1e300}, "scale"),
        ({"clip": float("inf")}, "clip"),
        ({"threshold": 1}, "threshold"),
        ({"threshold": 5}, "threshold equal to quorum"),
        ({"quorum": 3, "threshold": 3}, "2 \\* quorum"),
        ({"quorum": 6, "threshold": 6}, "quorum"),
        ({"num_colluders": 0}, "num_colluders"),
        ({"num_colluders": 5}, "num_colluders"),
        ({"degree": 3}, "degree"),
        ({"degree": 6}, "degree"),
        ({"degree": 2}, "degree"),
        ({"degree": 4, "threshold": 2}, "degree"),
        ({"noise_variance": -1.0}, "noise_variance"),
        ({"noise_variance": float("nan")}, "noise_variance"),
        ({"noise_variance": float("inf")}, "noise_variance"),
    ],
)
def test_values_that_do_not_fit_are_refused(spec, change, expected):
    with pytest.raises(ValueError, match=expected):
        dataclasses.replace(spec, **change)


def test_the_searched_parameters_of_a_regular_graph_make_a_round(spec):
    ids = tuple(f"site-{i:04d}" for i in range(400))
    graph = choose(400, roster_size=400, gamma=0.05, delta=0.05, allow_regular=True)
    sparse = dataclasses.replace(
        spec,
        cohort=ids,
        degree=graph.degree,
        threshold=graph.threshold,
        num_colluders=graph.num_colluders,
        quorum=(400 + graph.num_colluders) // 2 + 1,
    )
    assert sparse.threshold < sparse.degree < 400


@pytest.mark.parametrize("word_bits", [16, 24, 32])
def test_the_no_wrap_bound_is_exact_to_one_step(spec, word_bits):
    largest = max_input(5, word_bits=word_bits)
    base = dataclasses.replace(spec, word_bits=word_bits, extra_bounds=())
    fits = dataclasses.replace(base, scale=1.0, clip=float(largest), extra_bounds=(largest,))
    assert fits.input_bound == largest
    for change in ({"clip": float(largest + 1)}, {"extra_bounds": (largest + 1,)}):
        with pytest.raises(ValueError, match="lower scale"):
            dataclasses.replace(fits, **change)


def test_the_no_wrap_bound_leaves_room_for_the_noise(spec):
    noisy = {"word_bits": 16, "extra_bounds": (), "scale": 1.0, "noise_variance": 100.0}
    tail = skellam_tail(500.0, num_words=spec.num_words)
    largest = max_input(5, word_bits=16, noise_bound=tail)
    assert dataclasses.replace(spec, clip=float(largest), **noisy).noise_tail == tail
    with pytest.raises(ValueError, match="noise"):
        dataclasses.replace(spec, clip=float(largest + 1), **noisy)


def test_an_invalid_specification_is_refused_on_the_wire_too(spec):
    data = bytearray(spec.encode())
    clip = data.index(b"\x40\x49\x00\x00\x00\x00\x00\x00")  # scale = 50.0
    data[clip : clip + 8] = b"\xff" * 8
    with pytest.raises(RemoteProtocolError) as caught:
        RoundSpec.decode(bytes(data), peer="server")
    assert caught.value.reason is Misbehaviour.MALFORMED
    assert "scale" in str(caught.value)


def test_every_cut_is_refused(spec):
    data = spec.encode()
    for size in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            RoundSpec.decode(data[:size], peer="server")


def test_points_are_places_in_the_cohort(spec):
    assert [spec.point(id) for id in spec.cohort] == [1, 2, 3, 4, 5]

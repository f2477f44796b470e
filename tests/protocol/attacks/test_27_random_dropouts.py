"""Attack 27: any pattern of drop-outs: the sum over the survivors to the last bit, or no sum."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import SessionAborted
from protocol.words import centre

STAGES = 5


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_sum_over_the_survivors_is_exact_or_there_is_none(federation, simulation, data):
    num_sites = data.draw(st.integers(5, 9), label="sites")
    word_bits = data.draw(st.sampled_from([16, 24, 32]), label="word bits")
    members = federation(num_sites, word_bits=word_bits, collusion=0.1, num_words=5)
    gone_at = data.draw(
        st.lists(st.integers(0, 2 * STAGES), min_size=num_sites, max_size=num_sites),
        label="stage at which each site vanishes; 5 and above: never",
    )
    absent = {
        stage: [id for id, at in zip(members.ids, gone_at, strict=True) if at == stage]
        for stage in range(STAGES)
    }
    left = [sum(at > stage for at in gone_at) for stage in range(STAGES)]
    attempt = simulation.Round(members)
    if min(left) < members.spec.quorum:
        try:
            attempt.run(absent=absent)
        except SessionAborted:
            assert attempt.completed is None
            assert attempt.server.state == "Aborted"
            return
        raise AssertionError("a sum below the quorum")
    completed = attempt.run(absent=absent)
    # A site that vanishes after its upload is in the sum.
    survivors = tuple(id for id, at in zip(members.ids, gone_at, strict=True) if at > 2)
    assert completed.survivors == survivors
    expected = members.expected(survivors)
    assert centre(completed.words, word_bits=word_bits).tolist() == expected[:5]
    assert list(completed.extra) == expected[5:]


def test_the_sum_is_of_the_survivors_and_not_of_all(federation, simulation):
    members = federation(7, collusion=0.1)
    completed = simulation.Round(members).run(absent={2: [members.ids[6]]})
    assert members.ids[6] not in completed.survivors
    words = centre(completed.words, word_bits=32)
    assert words.tolist() == members.expected(completed.survivors)[: words.size]
    assert words.tolist() != members.expected(members.ids)[: words.size]

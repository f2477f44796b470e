"""Each round is signed once, whatever order sessions and threads come in."""

from concurrent.futures import ThreadPoolExecutor

from protocol import InMemoryRoundCounter


def test_the_counter_takes_each_round_once_and_in_order():
    counter = InMemoryRoundCounter()
    assert counter.last_signed_round() == -1
    assert counter.record_signed_round(3)
    assert not counter.record_signed_round(3)
    assert not counter.record_signed_round(2)
    assert counter.last_signed_round() == 3
    assert counter.record_signed_round(4)


def test_of_many_threads_only_one_may_sign_a_round():
    counter = InMemoryRoundCounter()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: counter.record_signed_round(5), range(64)))
    assert sum(won) == 1

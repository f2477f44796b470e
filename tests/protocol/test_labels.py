"""No label may be mistaken for another one."""

from protocol import labels
from protocol.suite import Suite

NAMES = [name for name in vars(labels) if name.isupper()]
VALUES = [getattr(labels, name) for name in NAMES]


def test_labels_are_distinct_and_carry_the_version():
    assert len(set(VALUES)) == len(VALUES)
    assert all(isinstance(value, bytes) for value in VALUES)
    older = {value for value in VALUES if not value.startswith((b"FSA2/", b"FSA2PQ/"))}
    # Outside rounds, or without a meaning of their own: as in 0.1.0, whose rosters stay signed.
    assert older == {labels.ROSTER, labels.STOCHASTIC_ROUNDING, labels.INSECURE_ENTROPY}
    assert all(value.startswith(b"FSA1/") for value in older)


def test_every_label_is_public():
    assert sorted(NAMES) == sorted(labels.__all__)


def test_no_label_is_the_beginning_of_another_one():
    for first in VALUES:
        assert [second for second in VALUES if second.startswith(first)] == [first]


def test_no_label_means_the_same_in_both_suites():
    shared = [value for value in VALUES if not value.startswith(b"FSA2PQ/")]
    hybrid = [Suite.HYBRID_PQ.label(value) for value in shared]
    assert [Suite.CLASSICAL.label(value) for value in shared] == shared
    assert all(value.startswith(b"FSA2PQ/") for value in hybrid)
    everything = VALUES + [value for value in hybrid if value != labels.HYBRID_SUITE]
    assert len(set(everything)) == len(everything)

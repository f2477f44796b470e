"""No label may be mistaken for another one."""

from protocol import labels

NAMES = [name for name in vars(labels) if name.isupper()]
VALUES = [getattr(labels, name) for name in NAMES]


def test_labels_are_distinct_and_carry_the_version():
    assert len(set(VALUES)) == len(VALUES)
    assert all(isinstance(value, bytes) and value.startswith(b"FSA1/") for value in VALUES)


def test_every_label_is_public():
    assert sorted(NAMES) == sorted(labels.__all__)


def test_no_label_is_the_beginning_of_another_one():
    for first in VALUES:
        assert [second for second in VALUES if second.startswith(first)] == [first]

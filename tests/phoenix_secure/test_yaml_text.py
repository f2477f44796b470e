"""YAML as the program reads it: no key lost, no scalar of another kind, no bomb."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError
from phoenix_secure.yaml_text import dump_yaml, parse_value, parse_yaml, shorten

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-007", -7),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("NO", "NO"),
        ("off", "off"),
        ("y", "y"),
        ("True", True),
        ("2027-01-31", "2027-01-31"),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ("!!str 010", "010"),
        ("!!int 0o10", 8),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(f"key: {text}", name="a.yaml")["key"]
    assert (type(found), found) == (type(value), value)
    assert parse_yaml(f"- {text}", name="a.yaml") == [value]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 1", ["gives a twice", "lines 1 and 3"]),
        ("a: {b: {c: 1,\n c: 2}}", ["a.b.c", "lines 1 and 2"]),
        ("a: {b: 1, 'b': 2}", ["a.b", "in line 1"]),
        ("- {x: 1,\n\n   x: 2}", ["0.x", "lines 1 and 3"]),
        ("d: &d {x: 1}\na:\n  <<: *d\n  x: 2", ["a.x", "lines 1 and 4"]),
        ("d: &d {x: 1}\na:\n  x: 2\n  <<: *d", ["a.x", "lines 3 and 1"]),
        ("d: &d {x: 1}\ne: &e {x: 2}\na: {<<: [*d, *e]}", ["a.x", "lines 1 and 2"]),
        ("d: &d {x: {y: 1}}\na:\n  <<: *d\n  x: {z: 2}", ["a.x", "lines 1 and 4"]),
        ("d: &d {x: 1}\ne: &e {<<: *d, y: 1}\na: {<<: *e, x: 3}", ["a.x", "lines 1 and 3"]),
        ("d: &d {x: 1}\ne: &e {y: 1}\na:\n  <<: *d\n  <<: *e", ["a.<<", "lines 4 and 5"]),
        ("a: &a [*a]", ["inside its own anchor", "line 1"]),
        ("a: &a {b: *a}", ["inside its own anchor", "line 1"]),
        ("a: {<<: 3}", ["line 1", "without a mapping"]),
        ("a: 1\n---\na: 2", ["line 2"]),
        ("a: 1\n\tb: 2", ["line 2"]),
        ("? [a]\n: b", ["a key must be one word"]),
        ("a: !!python/object/apply:os.system [ls]", ["line 1"]),
        ("a: !!timestamp 2027-01-31", ["line 1"]),
        ("a: !!int 1:30", ["line 1"]),
        ("a: " + "9" * 5000, ["is no int"]),
        ("[" * 500_000, ["32 levels"]),
        (BOMB, ["more than 10000 values"]),
        ("x" * 2_000_000, ["1 MiB"]),
        ("\x00", ["not valid YAML"]),
    ],
)
def test_refusals_name_the_lines_in_few_words_and_at_once(text: str, words: list[str]) -> None:
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text.encode(), name="a.yaml")
    message = str(caught.value)
    assert message.startswith("a.yaml")
    assert "\n" not in message
    assert len(message) < 400
    assert all(word in message for word in words), message
    assert time.process_time() - started < 2


def test_merge_keys_and_aliases_without_a_conflict_are_read() -> None:
    text = "d: &d {x: 1, z: [1]}\na: {<<: *d, y: 2}\nb: {<<: *d, y: 3}\nc: *d\n"
    found = parse_yaml(text, name="a.yaml")
    assert found == {
        "d": {"x": 1, "z": [1]},
        "a": {"x": 1, "z": [1], "y": 2},
        "b": {"x": 1, "z": [1], "y": 3},
        "c": {"x": 1, "z": [1]},
    }


def test_windows_files_and_empty_ones_are_read() -> None:
    assert parse_yaml(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", name="a.yaml") == {"a": 1, "b": 2}
    assert parse_yaml(b"# nothing\n", name="a.yaml") is None
    with pytest.raises(ConfigError, match="as text"):
        parse_yaml("a: 1".encode("utf-16"), name="a.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("my scans #2", "my scans #2"),
        ("#2", "#2"),
        ("3 # fast", "3 # fast"),
        ("'a #b'", "a #b"),
        ("[a#b, 'c #d']", ["a#b", "c #d"]),
        ("", None),
    ],
)
def test_a_number_sign_on_the_command_line_begins_no_comment(text: str, value: Any) -> None:
    assert parse_value(text, name="x") == value


@pytest.mark.parametrize("text", ["[1, 2] #x", "'a' #b", "{a: 1} #", "a: 1 #b"])
def test_a_number_sign_that_would_be_lost_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="in quotes"):
        parse_value(text, name="x")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=10,
)


@given(TREES)
def test_what_is_written_reads_back_equal(tree: Any) -> None:
    assert parse_yaml(dump_yaml({"key": tree}), name="a.yaml") == {"key": tree}
    assert parse_value(dump_yaml(tree, one_line=True), name="x") == tree


@given(st.from_regex(r"[-+0-9.:_eExo]{1,6}", fullmatch=True) | st.sampled_from(["NO", "on", "y"]))
def test_text_that_looks_like_a_number_stays_text_in_both_versions(text: str) -> None:
    written = dump_yaml({"key": text})
    assert parse_yaml(written, name="a.yaml") == {"key": text}
    assert yaml.safe_load(written) == {"key": text}


def test_a_long_value_is_cut() -> None:
    assert shorten("x") == "'x'"
    assert len(shorten("x" * 10_000)) == 200

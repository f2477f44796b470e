"""Which versions a record means: the schema's own rule, against a walk along the versions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.compliance.osv import Affected, Record, matches_in, verdict


def affected(*events: dict[str, str], versions: tuple[str, ...] = ()) -> Affected:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    return Affected.model_validate({"ranges": ranges, "versions": list(versions)})


def record(id: str, *, package: str = "torch", **more: Any) -> Record:
    """A record as osv.dev writes one, of every version before 2.0."""
    entry = {
        "package": {"ecosystem": "PyPI", "name": package, "purl": f"pkg:pypi/{package}"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        "versions": ["1.0"],
    }
    value = {"id": id, "modified": "2026-10-01T08:00:00Z", "affected": [entry], **more}
    return Record.model_validate(value)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.9", "affected"),
        ("1.10", "not affected"),  # ten, not one
        ("1.10rc1", "affected"),
        ("1.10.post1", "not affected"),
        ("1!1.0", "not affected"),
        ("v1.9.0", "affected"),
        ("not a version", "not decidable"),
    ],
)
def test_versions_compare_as_python_s_do(version: str, expected: str) -> None:
    found = verdict(affected({"introduced": "0"}, {"fixed": "1.10"}), version=version)
    assert found.value == expected


def test_a_build_of_a_release_is_the_release() -> None:
    last = affected({"introduced": "2.0"}, {"last_affected": "2.13.0"})
    assert verdict(last, version="2.13.0+cpu").value == "affected"
    assert verdict(affected(versions=("2.13",)), version="2.13.0+cpu").value == "affected"


def test_commits_alone_decide_nothing_and_are_no_all_clear() -> None:
    only = {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "af3c"}]}]}
    assert verdict(Affected.model_validate(only), version="1.0").value == "not decidable"
    assert verdict(affected(versions=("0.9",)), version="1.0").value == "not affected"
    assert verdict(affected({"introduced": "what"}), version="1.0").value == "not decidable"


def test_a_limit_cuts_a_range_off() -> None:
    limited = affected({"introduced": "1"}, {"limit": "3"})
    assert [verdict(limited, version=each).value for each in ("0", "2", "3")] == [
        "not affected",
        "affected",
        "not affected",
    ]


def _walk(events: list[tuple[str, int]], last: int) -> bool:
    """Is version ``last`` affected: go there from 0, one version at a time."""
    is_affected = False
    for at in range(last + 1):
        if ("fixed", at) in events:
            is_affected = False
        if ("introduced", at) in events:
            is_affected = True
        if at == last:
            return is_affected
        if ("last_affected", at) in events:
            is_affected = False
    raise AssertionError


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["introduced", "fixed", "last_affected"]), st.integers(0, 9)),
        min_size=1,
        unique=True,
    ),
    version=st.integers(0, 10),
)
def test_events_in_any_order_say_what_a_walk_finds(
    events: list[tuple[str, int]], version: int
) -> None:
    found = verdict(affected(*({kind: str(at)} for kind, at in events)), version=str(version))
    assert (found.value == "affected") == _walk(events, version)


def test_a_vulnerability_with_two_names_is_told_once() -> None:
    records = [
        record("PYSEC-2026-7", aliases=["CVE-2026-7"]),
        record("GHSA-aaaa-bbbb-cccc", aliases=["CVE-2026-7"]),
        record("PYSEC-2026-8", aliases=["CVE-2026-8"]),
    ]
    found = matches_in(records, packages={"torch": "1.0"})
    assert [each.record.id for each in found] == ["GHSA-aaaa-bbbb-cccc", "PYSEC-2026-8"]
    assert found[0].fixed_in == ("2.0",)


def test_withdrawn_records_and_other_packages_match_nothing() -> None:
    records = [
        record("A", withdrawn="2026-10-02T00:00:00Z"),
        record("B", package="torchvision"),
    ]
    assert matches_in(records, packages={"torch": "1.0"}) == []
    assert [
        each.package for each in matches_in([record("C", package="Torch")], packages={"torch": "1"})
    ] == ["torch"]


def test_a_severity_of_the_record_or_of_its_package_is_told() -> None:
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    rated = record("A", severity=[{"type": "CVSS_V3", "score": vector}])
    assert matches_in([rated], packages={"torch": "1.0"})[0].severity == vector
    assert matches_in([record("B")], packages={"torch": "1.0"})[0].severity == "not rated"

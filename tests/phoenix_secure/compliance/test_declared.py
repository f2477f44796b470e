"""Declared facts, the clause map, and what two reports may be compared by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from phoenix_secure.compliance.build import build_report
from phoenix_secure.compliance.catalogue import TITLES
from phoenix_secure.compliance.clause_map import ClauseMap, load_clause_map
from phoenix_secure.compliance.clause_table import COLUMNS, clause_table
from phoenix_secure.compliance.compare import compare
from phoenix_secure.compliance.declared import governance_template, parse_governance
from phoenix_secure.compliance.output import declare
from phoenix_secure.compliance.schema import Kind, Profile
from phoenix_secure.errors import ConfigError


def test_the_empty_template_declares_nothing() -> None:
    found = parse_governance(governance_template().encode(), name="governance.yaml")
    assert found.model_dump(exclude_defaults=True) == {}


def test_a_filled_line_is_printed_as_declared_and_never_as_measured(run: Path) -> None:
    filled = yaml.safe_load(governance_template())
    filled["purpose"]["text"] = "synthetic digits"
    filled["data"]["special_categories"] = False
    filled["assessment"]["measures"] = [{"what": "ask the officer", "due": "2027-01-31"}]
    (run / "mine.yaml").write_text(yaml.safe_dump(filled))
    declare(run, run / "mine.yaml")
    report = build_report(run)
    for id in ("A3.purpose", "B1.special_categories", "G2.measures"):
        assert report.field(id).kind is Kind.DECLARED
    assert report.value("B1.special_categories") is False
    assert report.field("A3.purpose").evidence[0].pointer == "/purpose/text"
    assert report.field("A3.recipients").kind is Kind.MISSING


def test_norway_is_a_region_and_no_flag() -> None:
    text = b"data: {region: NO, special_categories: no}\nassessment: {review_due: 2027-01-31}"
    found = parse_governance(text, name="governance.yaml")
    assert (found.data.region, found.data.special_categories) == ("NO", False)
    assert found.said("/assessment/review_due") == "2027-01-31"


def test_flags_are_words_counts_or_unknown_and_blank_entries_say_nothing() -> None:
    text = (
        b"data: {several_images_per_person: NO, persons_at_several_sites: Unknown, "
        b'categories: [" ", chest]}\npurpose: {recipients: [" ", null]}'
    )
    found = parse_governance(text, name="governance.yaml")
    assert found.data.several_images_per_person is False
    assert found.data.persons_at_several_sites == "unknown"
    assert found.said("/data/categories") == ["chest"]
    assert found.said("/purpose/recipients") is None
    counted = parse_governance(b"data: {several_images_per_person: 3}", name="g")
    assert counted.said("/data/several_images_per_person") == 3


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "holds no settings"),
        (b"- a", "holds no settings"),
        (b"purpose: {txt: x}", "purpose.txt"),
        (b"release_context: everywhere", "release_context"),
        (b"assessment: {review_due: soon}", "review_due"),
        (b"data: {special_categories: maybe}", "special_categories"),
        (b"\xff\xfe", "as text"),
        (b"a: !!python/object/apply:os.system [ls]", "not valid YAML in line 1"),
        (b"x" * (1 << 20) + b"x", "1 MiB"),
        (b"[" * 900_000, "nested more than 32 levels"),
        (b"data: {region: here, region: there}", "data.region twice"),
        (b"data: {region: true}", "data.region: true and false .* in quotes"),
        (b"data: {retention: 10}", "data.retention: .* in quotes"),
        (b"assessment: {review_due: 0}", "review_due: a date looks like"),
        (b"assessment: {review_due: 31.01.2027}", "review_due: a date looks like"),
        (b"data: {several_images_per_person: -1}", "several_images_per_person: expected true"),
        (b"data: {several_images_per_person: 0}", "several_images_per_person: expected true"),
        (b"data: {several_images_per_person: many}", "several_images_per_person: expected true"),
        (b"data: {several_images_per_person: 2.5}", "several_images_per_person: expected true"),
        (b"data: {persons_at_several_sites: 1}", "persons_at_several_sites: expected true, false"),
        (b"data: {categories: chest}", "data.categories: a list belongs here"),
        (b"parties: {controllers: [A]}", r"controllers: an entry is written .name: \.\.\."),
        (b"data:\n\tregion: X", "line 2 .a tab, and YAML indents with blanks"),
    ],
)
def test_what_is_no_governance_file_is_refused_by_name(
    content: bytes, word: str, run: Path
) -> None:
    (run / "bad.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=word) as caught:
        declare(run, run / "bad.yaml")
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "governance.yaml").exists()


def test_every_field_is_mapped_and_every_clause_asks_for_something() -> None:
    found = load_clause_map()
    assert set(found.fields) == set(TITLES)
    assert set(found.clauses) == {id for ids in found.fields.values() for id in ids}
    assert {profile for each in found.clauses.values() for profile in each.profiles} == set(Profile)


def test_no_field_is_mapped_to_a_clause_without_a_reason_and_a_date() -> None:
    found = load_clause_map()
    for field, ids in found.fields.items():
        assert isinstance(ids, dict), field
        for id in ids:
            assert found.why(field, id), (field, id)
            assert found.clauses[id].as_of is not None, id
            assert found.clauses[id].status in ("read", "secondary"), id


def test_a_federation_answers_for_joint_controllers_rights_and_transfers() -> None:
    found = load_clause_map()
    for id, fields in {
        "gdpr-26-1": {"A4.controllers", "A4.arrangement"},
        "gdpr-28-3": {"A4.processors", "A4.processor_terms"},
        "gdpr-9-2": {"B1.special_categories", "B1.special_basis"},
        "gdpr-89-1": {"B1.research_safeguards"},
        "gdpr-44": {"B1.transfers"},
        "gdpr-35-9": {"G3.subjects_views"},
        "gdpr-36-1": {"G3.prior_consultation"},
        "gdpr-17": {"G6.erasure"},
        "gdpr-21": {"G6.objection"},
        "ai-50-2": {"F6.marks"},
    }.items():
        assert {field for field, ids in found.fields.items() if id in ids} == fields


def test_a_reader_is_told_from_when_a_text_applies_and_what_was_left_out() -> None:
    found = load_clause_map()
    assert "from 2027-12-02 for systems of Annex III" in found.words("ai-iv-1")
    assert "from 2028-08-02 for systems of Annex I)" in found.words("ai-iv-1")
    assert [text.split(" (")[0] for text in found.left_out] == [
        f"EDPB Opinion 28/2024 on AI models, para 58({letter})" for letter in "abf"
    ]


def test_the_opinion_is_mapped_paragraph_by_paragraph() -> None:
    found = load_clause_map()
    places = {each.place for each in found.clauses.values() if each.text == "edpb"}
    assert places == {
        "executive summary",
        *(f"para {number}" for number in ("43", "46", "55", "58(c)", "58(d)", "58(e)")),
    }
    asked = {field for field, ids in found.fields.items() if "edpb-58e" in ids}
    assert {"F4.ratio", "C2.epsilon", "E3.coverage", "E4.attacks"} <= asked


def test_an_account_of_a_clause_names_whose_it_is() -> None:
    found = load_clause_map()
    value = found.model_dump(mode="json")
    assert {each.status for each in found.clauses.values()} == {"read", "secondary"}
    assert "by the account of TEHDAS2" in found.words("edpb-58e")
    assert "account" not in found.words("gdpr-17")
    value["clauses"]["edpb-58e"]["source"] = None
    with pytest.raises(ValueError, match="edpb-58e is an account, and names no source"):
        ClauseMap.model_validate(value)
    ClauseMap.model_validate(value | {"version": "2026-11-c"})


def test_the_table_has_a_row_for_each_clause_of_each_field() -> None:
    found = load_clause_map()
    rows = clause_table(profiles=tuple(Profile))
    assert len(rows) == sum(len(ids) for ids in found.fields.values())
    assert all(each.looked_up and each.source and each.reason for each in rows)
    assert all(len(each.cells()) == len(COLUMNS) for each in rows)
    (row,) = (each for each in rows if each.clause == "GDPR, Art. 17")
    assert (row.field, row.source) == ("G6.erasure", found.texts["gdpr"].url)
    of_aisvs = clause_table(profiles=(Profile.AISVS,))
    assert {each.clause.split(",")[0] for each in of_aisvs} == {"OWASP AISVS 1.0"}


@pytest.mark.parametrize(
    ("clauses", "word"),
    [
        ({"nowhere": "a reason that is long enough"}, "unknown clauses"),
        ({"gdpr-17": ""}, "at least 10 characters"),
        (["gdpr-17"], "gives no reasons"),
        ({"undated": "a reason that is long enough"}, "nobody looked up"),
        ({"remembered": "a reason that is long enough"}, "nobody looked up"),
    ],
)
def test_a_map_that_cannot_say_why_is_refused(clauses: Any, word: str) -> None:
    value = load_clause_map().model_dump(mode="json")
    of_erasure = value["clauses"]["gdpr-17"]
    value["clauses"]["undated"] = of_erasure | {"as_of": None}
    value["clauses"]["remembered"] = of_erasure | {"status": "unverified"}
    ClauseMap.model_validate(value)
    value["fields"]["A1.versions"] = clauses
    with pytest.raises(ValueError, match=word):
        ClauseMap.model_validate(value)


@pytest.mark.parametrize("version", ["2026-11-b", "2026-11-c"])
def test_maps_of_before_are_kept_as_they_were(version: str) -> None:
    found = load_clause_map(version)
    assert found.version == version != load_clause_map().version
    assert not any(each.source for each in found.clauses.values())


def test_a_report_of_before_has_the_fields_and_clauses_of_its_own_map(reported: Path) -> None:
    old = build_report(reported, clause_map="2026-11-b")
    ids = {each.id for each in old.fields}
    assert "G6.erasure" not in ids
    assert len(ids) < len(build_report(reported).fields)
    assert old.field("A4.controllers").clauses == ("gdpr-30-1",)
    assert "number unverified" in load_clause_map(old.clause_map).words("gdpr-30-1")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"delta": 1e-6, "epsilon": 5.74, "replace_one": {"epsilon": 5.88}}, "deltas"),
        ({"adjacency": "replace one image"}, "neighbours"),
        ({"unit": "site"}, "FAIL"),
        ({"epsilon": None}, "no formal guarantee"),
    ],
)
def test_unlike_guarantees_are_not_ranked(
    changes: dict[str, Any], word: str, run: Path, reported: Path
) -> None:
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    replaced = summary["guarantee"]["replace_one"] | changes.get("replace_one", {})
    summary["guarantee"] |= changes | {"replace_one": replaced}
    path.write_text(json.dumps(summary))
    found = compare(build_report(reported), build_report(run))
    assert found.ranking is None
    assert word in str(found.refusal)


def test_an_epsilon_per_image_is_not_ranked_against_one_per_site(reported: Path) -> None:
    first = build_report(reported)
    unit = {"unit": "site", "adjacency": "add or remove one whole site"}
    fields = tuple(
        each.model_copy(update={"value": unit}) if each.id == "B3.unit" else each
        for each in first.fields
    )
    found = compare(first, first.model_copy(update={"fields": fields}))
    assert found.ranking is None
    assert "different units" in str(found.refusal)


@pytest.mark.long
def test_like_guarantees_are_ranked_by_epsilon(
    make_run: Callable[..., Path], reported: Path, tmp_path: Path
) -> None:
    noise = ["privacy.unit=record", "privacy.noise_multiplier=2", "privacy.sampling_rate=0.05"]
    stronger = make_run(tmp_path / "run", *noise)
    found = compare(build_report(reported), build_report(stronger))
    assert found.ranking == "second"
    assert "C2.epsilon" in found.changed
    copy = Path(shutil.copytree(reported, tmp_path / "copy"))
    assert compare(build_report(reported), build_report(copy)).ranking == "equal"

"""Declared facts: ``governance.yaml``, what only people can say about a run."""

from __future__ import annotations

import datetime
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, ValidationError

from phoenix_secure.config.faults import explain
from phoenix_secure.config.section import Typed
from phoenix_secure.errors import ConfigError
from phoenix_secure.printed_text import without_controls
from phoenix_secure.yaml_text import parse_yaml

__all__ = ["GOVERNANCE", "Governance", "governance_template", "parse_governance"]

GOVERNANCE = "governance.yaml"


class _Part(Typed):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_MOST_IMAGES = 1_000_000  # of one person


def _flag(value: Any) -> Any:
    """A flag also where YAML has a word."""
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _flag_or_count(value: Any) -> Any:
    found = _flag(value)
    if found is None or isinstance(found, bool):
        return found
    if isinstance(found, int) and 1 <= found <= _MOST_IMAGES:
        return found
    raise ValueError("expected true, false, or how many images of one person there are at most")


def _flag_or_unknown(value: Any) -> Any:
    found = _flag(value)
    if found is None or isinstance(found, bool):
        return found
    if isinstance(found, str) and found.lower() == "unknown":
        return "unknown"
    raise ValueError("expected true, false or unknown")


class Purpose(_Part):
    text: str | None = None
    intended_uses: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()


class Party(_Part):
    name: str
    kind: Literal["government", "industry", "nonprofit"] | None = None
    role: str | None = None
    contact: str | None = None


class Parties(_Part):
    controllers: tuple[Party, ...] = ()
    arrangement: str | None = None
    processors: tuple[Party, ...] = ()
    processor_terms: str | None = None
    dpo: Party | None = None
    signatory: Party | None = None


class Data(_Part):
    source: str | None = None
    region: str | None = None
    sector: (
        Literal["technology", "healthcare", "education", "government", "energy", "finance"] | None
    ) = None
    legal_basis: str | None = None
    categories: tuple[str, ...] = ()
    special_categories: bool | None = None
    special_basis: str | None = None
    research_safeguards: str | None = None
    subjects: tuple[str, ...] = ()
    retention: str | None = None
    transfers: str | None = None
    several_images_per_person: Annotated[bool | int | None, BeforeValidator(_flag_or_count)] = None
    persons_at_several_sites: Annotated[
        bool | Literal["unknown"] | None, BeforeValidator(_flag_or_unknown)
    ] = None
    preprocessing: str | None = None


class Security(_Part):
    access_control: str | None = None
    key_handling: str | None = None
    transport: str | None = None
    vulnerabilities: str | None = None


class Measure(_Part):
    what: str
    owner: str | None = None
    due: datetime.date | None = None


class Expert(_Part):
    name: str
    qualification: str | None = None
    statement: str | None = None


class Assessment(_Part):
    impact_assessment: str | None = None
    dpo_advice: str | None = None
    subjects_views: str | None = None
    prior_consultation: str | None = None
    trade_off: str | None = None
    residual_risks: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    expert: Expert | None = None
    review_triggers: tuple[str, ...] = ()
    review_due: datetime.date | None = None
    deployers: tuple[str, ...] = ()
    erasure: str | None = None
    objection: str | None = None
    energy: str | None = None


class Governance(_Part):
    """The whole file; what is left out stays unsaid."""

    format: Literal["phoenix-secure/governance/v1"] = "phoenix-secure/governance/v1"
    purpose: Purpose = Purpose()
    release_context: Literal["internal", "api", "synthetic-data-only", "open-weights"] | None = None
    parties: Parties = Parties()
    data: Data = Data()
    security: Security = Security()
    assessment: Assessment = Assessment()

    def said(self, pointer: str) -> Any:
        """The value at ``/section/key`` as plain JSON; None where the file says nothing."""
        value: Any = self.model_dump(mode="json")
        for key in pointer.strip("/").split("/"):
            value = value[key]
        return None if value in ("", [], ()) else value


def governance_template() -> str:
    """The commented template."""
    source = files("phoenix_secure.compliance").joinpath("templates/governance.yaml")
    return source.read_text(encoding="utf-8")


def parse_governance(content: bytes, *, name: str) -> Governance:
    """The declared facts in a file's ``content``; ``name`` is for messages.

    Raises:     ConfigError naming the file, the key and what was expected.
    """
    try:
        value = _printable(parse_yaml(content, name=name))
    except ConfigError as error:
        raise ConfigError(f"{error}; compare it with `report --template`") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{name} holds no settings: start from `report --template`")
    try:
        return Governance.model_validate(_without_empty(value))
    except ValidationError as error:
        raise ConfigError(
            f"{name}: {explain(error, of=Governance)}; compare it with `report --template`"
        ) from error


def _printable(value: Any) -> Any:
    """Declared text goes into every edition of the report, JSON too."""
    if isinstance(value, dict):
        return {key: _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return without_controls(value) if isinstance(value, str) else value


def _without_empty(value: Any) -> Any:
    """An empty line says nothing, and neither does a blank entry of a list: the template may be
    filled in one by one."""
    if isinstance(value, list):
        return [
            _without_empty(each)
            for each in value
            if each is not None and not (isinstance(each, str) and not each.strip())
        ]
    if isinstance(value, dict):
        kept = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each is not None}
    return value

"""The settings of one site: ``site.yaml``, written when it joins, edited by its owner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from phoenix_secure.config.faults import explain
from phoenix_secure.config.images import DataGroup
from phoenix_secure.config.paths import with_absolute_paths
from phoenix_secure.config.section import Section
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.deployment.hosts import canonical_host_port
from phoenix_secure.federation.site.policy import SitePolicy
from phoenix_secure.yaml_text import read_yaml

__all__ = [
    "ADDRESS",
    "Address",
    "SiteData",
    "SiteSettings",
    "SyftSettings",
    "load_site_settings",
    "read_section",
]

_SectionT = TypeVar("_SectionT", bound=Section)

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,45}$")]
HostPort = Annotated[str, AfterValidator(canonical_host_port)]
# An address names a folder in PySyft: no slash, no leading dot.
ADDRESS = r"^[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,189}$"
Address = Annotated[str, Field(pattern=ADDRESS)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class SiteData(Section):
    """The source of this site's images. The plan sets their size, never their folder."""

    source: Literal["own", "share-of-plan"] = Field(
        "own",
        description="[name] own: the images named here. share-of-plan: for rehearsals, this "
        "site's part of the public data set in the plan.",
    )
    name: Literal["image-folder", "npz", "huggingface"] = Field(
        "image-folder", description="[name] Kind of the site's own images."
    )
    path: str | None = Field(None, description="[path] Folder or .npz file of the own images.")
    group: DataGroup | None = Field(
        None,
        exclude_if=lambda group: group is None,
        description="[name] Where these images say whose they are, if otherwise than data.group of "
        "the plan: folder:LEVEL, column:NAME, array:NAME, dicom:PatientID or file.",
    )

    classes: dict[Annotated[str, Field(min_length=1)], str | None] = Field(
        {},
        exclude_if=lambda classes: not classes,
        description="[names] This site's name of a class (a folder, or a value of its label "
        "column) and the plan's, such as `{ben: benign, mal: malignant, other: null}`. null leaves "
        "such images out; several may be one class of the plan. A class without an entry keeps its "
        "name.",
    )

    @model_validator(mode="after")
    def _own_images_have_a_path(self) -> Self:
        if self.source == "own" and not self.path:
            raise ValueError("source own needs path, the folder or file of this site's images")
        if self.source != "own" and self.classes:
            raise ValueError("classes is for own images: those of the plan have its classes")
        return self


class SyftSettings(Section):
    """The SyftBox through which proposals arrive (``approver: syft``)."""

    folder: str = Field(description="[path] The SyftBox: a plain folder, or one that PySyft syncs.")
    owner: Address | None = Field(
        None, description="[e-mail] This site in PySyft; default: SITE@FEDERATION.invalid."
    )
    coordinator: Address | None = Field(
        None, description="[e-mail] Whose proposals are read; default: server@FEDERATION.invalid."
    )


class SiteSettings(Section):
    """All settings of one site."""

    site: Id = Field(description="[name] This site's name in the roster.")
    federation: Id = Field(description="[name] The federation it belongs to.")
    server: HostPort | None = Field(
        None, description="[host:port] Where the server's Fleet proxy listens."
    )
    folder: str | None = Field(
        None, description="[path] Instead of a server: the folder that messages travel in."
    )
    supernode_port: Port = Field(
        9094, description="[port] Loopback port of this machine for Flower's SuperNode."
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="[name] auto, cpu, cuda or cuda:N."
    )
    devices: int = Field(
        1,
        ge=1,
        le=64,
        description="[devices] Devices of this machine that share each local step: CUDA devices "
        "from `device` on, or as many processes on the CPU. Not for persons (privacy.unit group), "
        "nor on a machine with users who may not see the images.",
    )
    data: SiteData = Field(description="This site's images.")
    policy: SitePolicy = Field(SitePolicy(), description="What every plan must meet.")
    approver: Literal["file", "syft"] = Field(
        "file",
        description="[name] How plans are approved. file: `site approve` signs a plan that was "
        "offered. syft: `site review` and `site approve` over proposals that came through PySyft.",
    )
    syft: SyftSettings | None = Field(None, description="PySyft; needed by approver: syft.")

    @model_validator(mode="after")
    def _one_way_to_the_server(self) -> Self:
        if (self.server is None) == (self.folder is None):
            raise ValueError("set either server or folder: the one way to the server")
        return self

    @model_validator(mode="after")
    def _syft_has_a_folder(self) -> Self:
        if self.approver == "syft" and self.syft is None:
            raise ValueError("approver syft needs the section syft with the folder of the SyftBox")
        return self


def load_site_settings(path: Path) -> SiteSettings:
    """Read ``site.yaml``.

    Raises:     ConfigError naming the setting and what is wrong with it.
    """
    return read_section(path, SiteSettings)


def read_section(path: Path, kind: type[_SectionT]) -> _SectionT:
    """A YAML file as a section of settings.

    Raises:     ConfigError naming file, setting and fault.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} is missing: a party that made its own keys joins first (`phoenix-secure site "
            "join`, `server join`); `deploy init` makes a whole federation for trials"
        ) from error
    try:
        found = kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, of=kind)}") from error
    return with_absolute_paths(found, folder=Path.cwd())

"""The images of a run, and their data partition."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from phoenix_secure.config.section import Extensible, Fraction, Section
from phoenix_secure.extensions import ExtensionPoint
from phoenix_secure.printed_text import without_controls, without_marks

__all__ = ["OWN_DATA", "DataConfig", "DataGroup", "PartitionConfig", "SlicesConfig", "group_form"]

# Kinds of data that the user brings: each needs a path, and a path may show anything.
OWN_DATA = ("image-folder", "npz", "huggingface")
_PUBLISHED = ("mnist-5k", "digits", "fashion-mnist", "mnist", "cifar10")

_GROUP = re.compile(r"file|dicom:PatientID|folder:[1-9]|(column|array):\S.*")


def group_form(text: str) -> str:
    """``text``, if it is a value of ``data.group``.

    Raises:     ValueError saying what one is.
    """
    if not _GROUP.fullmatch(text):
        raise ValueError(
            "group must be folder:LEVEL (1 to 9), column:NAME, array:NAME, dicom:PatientID or file"
        )
    return text


WindowEnd = float | Annotated[str, Field(pattern=r"^p(100|\d{1,2}(\.\d+)?)$")]


class SlicesConfig(Section):
    """The slices of a volume that are images, after its axes were turned to RAS."""

    axis: Literal["axial", "coronal", "sagittal"] = Field(
        description="[name] Across which axis of the patient volumes are cut."
    )
    step: int = Field(
        1, ge=1, le=1000, description="[slices] Each so many-th slice, from the first."
    )


DataGroup = Annotated[str, AfterValidator(group_form)]


class DataConfig(Section):
    """Which images, at which size, and what is kept back from training."""

    name: Annotated[
        str,
        Extensible(
            ExtensionPoint.DATA_SOURCE,
            (*_PUBLISHED, *OWN_DATA),
        ),
    ] = Field("mnist-5k", description="[name] The data set; `phoenix-secure data list` shows all.")
    path: str | None = Field(
        None,
        description="[path] Folder, .npz file, or hf://OWNER/NAME on the Hugging Face hub; only "
        "for the data sets image-folder, npz and huggingface.",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=512,
        description="[pixels] Resize to this square; empty keeps the set's own size.",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="[channels] 1 for grey, 3 for colour; empty keeps the set's own."
    )
    max_images: int | None = Field(
        None, ge=1, description="[images] Use only this many images; empty uses all."
    )
    part: Literal["train", "test", "validation", "all"] | None = Field(
        None,
        exclude_if=lambda part: part is None,
        description="[name] Which part is read, where names in data.path speak of parts; empty "
        "refuses what the names leave open. all: every part, their names taken as any others.",
    )
    window: tuple[WindowEnd, WindowEnd] | None = Field(
        None,
        exclude_if=lambda window: window is None,
        description="[values] Two stored values, [lo, hi], that become black and white; what lies "
        "outside is clipped. For pictures of more than 8 bits, arrays of another scale, and, in "
        "the unit that the file rescales to (Hounsfield, say), DICOM and NIfTI. [p1, p99]: these "
        "percentiles over the whole set, without privacy.unit and in one process only.",
    )
    class_names: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (),
        max_length=1000,
        exclude_if=lambda names: not names,
        description="[names] The classes, in their order: labels count in them by name, at every "
        "site alike. Needed by model.class_conditional between machines. Images of other classes "
        "are refused, or left out where each image is read alone. Empty: those of the data.",
    )
    slices: SlicesConfig | None = Field(
        None,
        exclude_if=lambda slices: slices is None,
        description="[section] Which slices of a NIfTI volume are images; needed to read one.",
    )
    group: DataGroup | None = Field(
        None,
        exclude_if=lambda group: group is None,
        description="[name] Where data.path says whose image each is, so that all images of one "
        "person stay together: folder:LEVEL (counted from the class folders), column:NAME (of "
        "parquet files or of a table beside pictures), array:NAME (.npz), dicom:PatientID, or file "
        "(each file is one person's).",
    )
    strict: bool = Field(
        False,
        exclude_if=lambda strict: not strict,
        description="[flag] Refuse to pass over any file, row or array of data.path.",
    )
    cache: bool = Field(
        False,
        exclude_if=lambda cache: not cache,
        description="[flag] Keep the decoded pictures of an image-folder in PHOENIX_DATA_DIR, or "
        "~/.cache/phoenix-secure, for the next start: a second copy, readable by its owner alone.",
    )
    # Both stay unwritten where they say what a file from before they existed says by silence, so
    # that plans and run folders of that time keep their bytes, and their hashes.
    split: Literal["stratified", "keyed"] | None = Field(
        None,
        exclude_if=lambda scheme: scheme != "keyed",
        description="[name] How images become members, held-out and reference. keyed: by a keyed "
        "hash of each image alone, as differential privacy needs. stratified: exact sizes, class "
        "by class. Empty: keyed under a privacy.unit, else stratified.",
    )
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        exclude_if=lambda fraction: fraction == 1,
        description="[fraction] Use each image with this probability, by its keyed hash (split "
        "keyed): in place of max_images, which looks at all images.",
    )
    held_out: Fraction = Field(
        0.1, description="[fraction] Real images never trained on: non-members of later audits."
    )
    reference: Fraction = Field(
        0.1,
        description="[fraction] Real images for metrics and attack calibration, never trained on.",
    )

    def require_fixed_window(self, why: str) -> None:
        """Refuse a window that follows from the images.

        Raises:     ValueError.
        """
        if self.window is not None and isinstance(self.window[0], str):
            raise ValueError(
                f"data.window {list(self.window)} follows from the images, and {why}: set it to "
                "two numbers (`phoenix-secure data show --window` with percentiles prints them)"
            )

    @field_validator("split", mode="before")
    @classmethod
    def _no_part(cls, value: object) -> object:
        if value in ("train", "test", "val", "validation", "all"):
            raise ValueError(
                "split says how images become members, held-out and reference; for a part that "
                "the data set brings, set data.part"
            )
        return value

    @field_validator("part", mode="before")
    @classmethod
    def _one_name(cls, value: object) -> object:
        return "validation" if value in ("val", "valid", "dev") else value

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        if self.name in OWN_DATA and not self.path:
            raise ValueError(f"path is needed for the data set {self.name!r}: set data.path")
        if self.window is not None:
            ends = [float(str(end).removeprefix("p")) for end in self.window]
            if len({isinstance(end, str) for end in self.window}) > 1 or not ends[0] < ends[1]:
                raise ValueError(
                    "window must be [lo, hi] with lo < hi, two numbers or two percentiles such as "
                    f"[p1, p99], got {list(self.window)}"
                )
            if self.split == "keyed":
                self.require_fixed_window("with data.split keyed one image would move it for all")
        # As they are compared with those of a folder, whose system may encode letters otherwise.
        alike = {unicodedata.normalize("NFC", without_marks(n)).strip() for n in self.class_names}
        if len(alike) < len(self.class_names):
            raise ValueError("class_names must be different names")
        if any(without_controls(name) != name for name in self.class_names):
            raise ValueError(
                "class_names must be text that can be shown, without control characters"
            )
        if self.group is not None and self.name in _PUBLISHED:
            raise ValueError(f"group is for data of your own, not for {self.name}: leave it out")
        if self.held_out + self.reference > 0.9:
            raise ValueError("held_out + reference leave less than a tenth for training: lower one")
        return self


class PartitionConfig(Section):
    """The data partition: the scheme that assigns training images to sites."""

    scheme: Annotated[
        str,
        Extensible(ExtensionPoint.PARTITION, ("iid", "dirichlet", "shards", "quantity")),
    ] = Field(
        "dirichlet",
        description="[name] iid, Dirichlet label skew, label shards, or Dirichlet quantity skew.",
    )
    num_sites: int = Field(5, ge=1, le=1000, description="[sites] How many data owners take part.")
    alpha: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="[1] Dirichlet concentration (dirichlet, quantity): small is skewed.",
    )
    shards_per_site: int = Field(
        2, ge=1, le=100, description="[shards] Label shards dealt to each site (scheme shards)."
    )
    min_images_per_site: int = Field(
        1, ge=1, description="[images] Smallest site allowed (schemes dirichlet and quantity)."
    )

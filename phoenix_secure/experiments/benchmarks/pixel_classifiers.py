"""Plain classifiers of a utility table: logistic regression and one hidden layer, on pixels.

scikit-learn's, with fixed work: nothing stops or is chosen by how well it goes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from phoenix_secure.metrics.checked import Images, check_images

__all__ = ["HIDDEN", "ITERATIONS", "MLP_EPOCHS", "PixelAccuracies", "pixel_accuracies"]

ITERATIONS = 200  # of L-BFGS, with scikit-learn's penalty (C = 1)
HIDDEN = 256
MLP_EPOCHS = 20  # of Adam at 1e-3, batches of 128
_BATCH = 128

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelAccuracies:
    """Shares of real test images that are named rightly."""

    logreg: float
    mlp: float


def pixel_accuracies(
    images: Images, *, labels: Labels, test: Images, test_labels: Labels, rng: np.random.Generator
) -> PixelAccuracies:
    """Train both on ``images`` alone and read ``test`` with them.

    Shape:      images (N, C, H, H) and test (M, C, H, H) in [-1, 1]; labels (N,) and (M,).
    Guarantee:  the same arguments and state of ``rng`` give the same figures, whatever the number
                of cores: BLAS has one thread.
    Raises:     DataError for images of another form; ValueError for labels of one class only.
    """
    pixels, seen = _flat(images, what="training images"), _flat(test, what="test images")
    seed = int(rng.integers(2**31))
    with threadpool_limits(1), warnings.catch_warnings():
        # Both end after fixed work, and say so each time.
        warnings.simplefilter("ignore", ConvergenceWarning)
        logreg = LogisticRegression(max_iter=ITERATIONS).fit(pixels, labels)
        mlp = MLPClassifier(
            (HIDDEN,),
            batch_size=min(_BATCH, len(pixels)),
            max_iter=MLP_EPOCHS,
            n_iter_no_change=MLP_EPOCHS,
            random_state=seed,
        ).fit(pixels, labels)
        return PixelAccuracies(
            logreg=float(logreg.score(seen, test_labels)), mlp=float(mlp.score(seen, test_labels))
        )


def _flat(images: Images, *, what: str) -> npt.NDArray[np.floating]:
    """(N, C H H) in [0, 1]."""
    pixels = check_images(images, what=what)
    return (pixels.reshape(len(pixels), -1) + np.float32(1)) / np.float32(2)

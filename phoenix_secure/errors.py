"""The root of all errors that a user may see, and the exit code each one ends with.

A message names the setting or the file and says what to do. It never holds keys, updates or
pixels. ``cli`` prints it on one line and leaves with ``exit_code`` (3 to 9 are kept for verdicts).
"""

__all__ = [
    "BudgetExhausted",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "NoImages",
    "PhoenixError",
    "StorageError",
    "TrainingError",
]


class PhoenixError(Exception):
    """Abstract: something outside our control was not as it must be."""

    exit_code = 1


class ConfigError(PhoenixError):
    """A setting is unknown, out of its bounds, or contradicts another one."""

    exit_code = 2


class DataError(PhoenixError):
    """Images are missing, unreadable, not finite, or of another shape than the model expects."""

    exit_code = 10


class NoImages(DataError):  # noqa: N818 - it is what was found, not what went wrong
    """No image was found in the place searched."""


class CheckpointError(PhoenixError):
    """A run or model folder is missing, truncated, or was written by other settings."""

    exit_code = 11


class StorageError(PhoenixError):
    """The disk is full or a folder cannot be written."""

    exit_code = 12


class TrainingError(PhoenixError):
    """Training cannot go on: weights became NaN, or too few sites answered."""

    exit_code = 13


class BudgetExhausted(PhoenixError):  # noqa: N818 - the word of the field
    """A site's privacy budget does not allow another release: it stops before the step."""

    exit_code = 15

"""Images: their sources, the data partition, and the heterogeneity of the sites."""

from phoenix_secure.data.cache import default_cache_dir
from phoenix_secure.data.images import ImageSet, from_unit_range, to_unit_range
from phoenix_secure.data.sources import DATASETS, load_images, load_test_images

__all__ = [
    "DATASETS",
    "ImageSet",
    "default_cache_dir",
    "from_unit_range",
    "load_images",
    "load_test_images",
    "to_unit_range",
]

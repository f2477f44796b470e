"""Every setting of a run: frozen models, each field with its unit, bounds and a sentence.

Outside input (YAML, command line) becomes a :class:`RunConfig` once, in ``config_file``; inside
the program nobody validates again and nobody passes dictionaries.
"""

from phoenix_secure.config.audit import AuditConfig
from phoenix_secure.config.federation import EmaConfig, FederationConfig
from phoenix_secure.config.images import DataConfig, PartitionConfig
from phoenix_secure.config.network import CLASSIFIER, DiffusionConfig, ModelConfig
from phoenix_secure.config.output import EvaluationConfig, OutputConfig, SamplingConfig
from phoenix_secure.config.privacy import PrivacyConfig
from phoenix_secure.config.release import ReleaseConfig
from phoenix_secure.config.run import RunConfig
from phoenix_secure.config.secure_aggregation import SecureAggregationConfig
from phoenix_secure.config.start import EarlierGuarantee, StartConfig
from phoenix_secure.config.strategies import ExchangeConfig, FilteringConfig, SharingConfig
from phoenix_secure.config.training import TrainingConfig

__all__ = [
    "CLASSIFIER",
    "AuditConfig",
    "DataConfig",
    "DiffusionConfig",
    "EarlierGuarantee",
    "EmaConfig",
    "EvaluationConfig",
    "ExchangeConfig",
    "FederationConfig",
    "FilteringConfig",
    "ModelConfig",
    "OutputConfig",
    "PartitionConfig",
    "PrivacyConfig",
    "ReleaseConfig",
    "RunConfig",
    "SamplingConfig",
    "SecureAggregationConfig",
    "SharingConfig",
    "StartConfig",
    "TrainingConfig",
]

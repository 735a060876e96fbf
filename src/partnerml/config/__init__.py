"""The configuration: a YAML file as frozen, strict values.

The smallest is ``data: {source: data/}``. What is not named has the default that is documented with each key
(`describe`); an unknown key is refused with the nearest known one. Relative paths start at the file that
names them, those of overrides at the working directory.
"""

from partnerml.config._base import parse_duration
from partnerml.config._data import (
    BlockConfig,
    ColumnConfig,
    CurrencyConfig,
    DataConfig,
    unknown_column,
)
from partnerml.config._describe import KeyInfo, describe
from partnerml.config._features import (
    DEFAULT_TRAITS,
    FEATURE_SOURCES,
    MAX_EVENT_TYPES,
    FeaturesConfig,
    PeersConfig,
    TraitsConfig,
)
from partnerml.config._models import (
    ActivityConfig,
    ChurnConfig,
    Config,
    EngineConfig,
    MlflowConfig,
    ReportConfig,
    TasksConfig,
    ValidationConfig,
)
from partnerml.config._reading import nearest

__all__ = [
    "DEFAULT_TRAITS",
    "FEATURE_SOURCES",
    "MAX_EVENT_TYPES",
    "ActivityConfig",
    "BlockConfig",
    "ChurnConfig",
    "ColumnConfig",
    "Config",
    "CurrencyConfig",
    "DataConfig",
    "EngineConfig",
    "FeaturesConfig",
    "KeyInfo",
    "MlflowConfig",
    "PeersConfig",
    "ReportConfig",
    "TasksConfig",
    "TraitsConfig",
    "ValidationConfig",
    "describe",
    "nearest",
    "parse_duration",
    "unknown_column",
]

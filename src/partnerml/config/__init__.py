"""The configuration: a YAML file as frozen, strict values.

The smallest is ``data: {source: data/}``. What is not named has the default that is documented with each key
(`describe`); an unknown key is refused with the nearest known one. Relative paths start at the file that
names them, those of overrides at the working directory.
"""

from partnerml.config._describe import KeyInfo, describe
from partnerml.config._models import (
    DEFAULT_TRAITS,
    ActivityConfig,
    BlockConfig,
    ChurnConfig,
    ColumnConfig,
    Config,
    CurrencyConfig,
    DataConfig,
    EngineConfig,
    MlflowConfig,
    ReportConfig,
    TasksConfig,
    TraitsConfig,
    ValidationConfig,
    parse_duration,
    unknown_column,
)
from partnerml.config._reading import nearest

__all__ = [
    "DEFAULT_TRAITS",
    "ActivityConfig",
    "BlockConfig",
    "ChurnConfig",
    "ColumnConfig",
    "Config",
    "CurrencyConfig",
    "DataConfig",
    "EngineConfig",
    "KeyInfo",
    "MlflowConfig",
    "ReportConfig",
    "TasksConfig",
    "TraitsConfig",
    "ValidationConfig",
    "describe",
    "nearest",
    "parse_duration",
    "unknown_column",
]

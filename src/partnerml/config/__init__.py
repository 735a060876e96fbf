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
from partnerml.config._evaluation import EvaluationConfig
from partnerml.config._features import (
    DEFAULT_TRAITS,
    FEATURE_SOURCES,
    MAX_EVENT_TYPES,
    FeaturesConfig,
    PeersConfig,
    TraitsConfig,
)
from partnerml.config._models import Config, EngineConfig, MlflowConfig, ReportConfig, ValidationConfig
from partnerml.config._outreach import REASON_KINDS, ActionabilityConfig, OutreachConfig
from partnerml.config._reading import nearest
from partnerml.config._routing import (
    BatchConfig,
    FirstStageConfig,
    HoursConfig,
    MatchingConfig,
    OffersConfig,
    PolicyConfig,
    RoutingConfig,
    RuleConfig,
    ShareConfig,
    SplitConfig,
)
from partnerml.config._tasks import (
    ActivityConfig,
    ChurnConfig,
    CloseConfig,
    FitConfig,
    PropensityConfig,
    TasksConfig,
)
from partnerml.config._tuning import TuningConfig

__all__ = [
    "DEFAULT_TRAITS",
    "FEATURE_SOURCES",
    "MAX_EVENT_TYPES",
    "REASON_KINDS",
    "ActionabilityConfig",
    "ActivityConfig",
    "BatchConfig",
    "BlockConfig",
    "ChurnConfig",
    "CloseConfig",
    "ColumnConfig",
    "Config",
    "CurrencyConfig",
    "DataConfig",
    "EngineConfig",
    "EvaluationConfig",
    "FeaturesConfig",
    "FirstStageConfig",
    "FitConfig",
    "HoursConfig",
    "KeyInfo",
    "MatchingConfig",
    "MlflowConfig",
    "OffersConfig",
    "OutreachConfig",
    "PeersConfig",
    "PolicyConfig",
    "PropensityConfig",
    "ReportConfig",
    "RoutingConfig",
    "RuleConfig",
    "ShareConfig",
    "SplitConfig",
    "TasksConfig",
    "TraitsConfig",
    "TuningConfig",
    "ValidationConfig",
    "describe",
    "nearest",
    "parse_duration",
    "unknown_column",
]

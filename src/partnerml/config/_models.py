"""The sections of a configuration: frozen, strict, each key with its default and meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import BeforeValidator, Field

from partnerml.config._base import Model, as_tuple, refusal
from partnerml.config._data import DataConfig
from partnerml.config._evaluation import EvaluationConfig
from partnerml.config._features import FeaturesConfig, TraitsConfig
from partnerml.config._outreach import OutreachConfig
from partnerml.config._reading import absolute, apply_override, explain, parse_yaml
from partnerml.config._routing import RoutingConfig
from partnerml.config._tasks import TasksConfig
from partnerml.config._tuning import TuningConfig
from partnerml.errors import ConfigError

# known to the contract, not to this version: refused by name, so that nobody takes the silence for a result
_LATER_SECTIONS = ("monitoring",)


class ValidationConfig(Model):
    """How much may be wrong."""

    max_rejected: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of a table that may be set aside before the warnings become an error",
    )


class EngineConfig(Model):
    """Limits of the embedded DuckDB."""

    threads: int | None = Field(default=None, ge=1, description="null = all cores; results do not depend on it")
    memory_limit: str | None = Field(default=None, description="such as 2GB; null = DuckDB's own, 80 % of the memory")
    spill: str | None = Field(default=None, description="folder for what does not fit into memory; null = OUT/.spill")

    @pydantic.field_validator("memory_limit")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]i?B)", value) is None:
            raise refusal(f"a size such as 512MB or 2GB is needed, got {value!r}")
        return value


class MlflowConfig(Model):
    """Where runs are logged and models registered."""

    tracking_uri: str | None = Field(default=None, description="null = sqlite database OUT/mlflow.db")


class ReportConfig(Model):
    """How scores are shown."""

    bands: Annotated[tuple[float, float, float], BeforeValidator(as_tuple)] = Field(
        default=(0.25, 0.5, 0.75),
        description="cuts between low, medium, high and critical; a cut belongs to the band above",
    )

    @pydantic.field_validator("bands")
    @classmethod
    def _increasing(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not 0 < value[0] < value[1] < value[2] < 1:
            raise refusal(f"three increasing cuts between 0 and 1 are needed, got {list(value)}")
        return value


class Config(Model):
    """A whole configuration.

    Build one with `Config.load` (a YAML file), `Config.of_source` (a folder, a .duckdb file or a URL) or
    `Config.from_dict`.
    """

    later: ClassVar[tuple[str, ...]] = _LATER_SECTIONS

    data: DataConfig = Field(default_factory=DataConfig, description="where the tables come from")
    traits: TraitsConfig = Field(default_factory=TraitsConfig, description="columns that may become features, by table")
    features: FeaturesConfig = Field(
        default_factory=FeaturesConfig, description="which features there are, and how they are kept"
    )
    output: str = Field(default="out", description="OUT: where scores, models, rejects and reports go")
    tasks: TasksConfig | None = Field(
        default=None,
        description="without it, every task whose tables and labels exist; if there is one, a task that it does not "
        "list is not trained by `all`",
    )
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="how strictly models are judged")
    tuning: TuningConfig = Field(default_factory=TuningConfig, description="how much is spent on better settings")
    validation: ValidationConfig = Field(default_factory=ValidationConfig, description="how much may be wrong")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="limits of the embedded DuckDB")
    mlflow: MlflowConfig = Field(default_factory=MlflowConfig, description="where models are registered")
    report: ReportConfig = Field(default_factory=ReportConfig, description="how scores are shown")
    outreach: OutreachConfig = Field(default_factory=OutreachConfig, description="whom to call first")
    routing: RoutingConfig = Field(
        default_factory=RoutingConfig, description="who may get a lead, how one is chosen, and for how long"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of everything drawn; same input and seed, same bytes")

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Config:
        """Read a YAML file.

        Parameters
        ----------
        path : str or Path
        overrides : sequence of str
            ``KEY=VALUE`` with a dotted key, such as ``"data.source=exports/"``; the value is YAML.

        Raises
        ------
        ConfigError
            Names the file, the dotted key, what is allowed and what came.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: the configuration cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: the configuration is not UTF-8 text (byte {error.start})") from None
        tree = parse_yaml(text, str(path))
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: a mapping of keys is needed at the top, got {type(tree).__name__}")
        return cls.from_dict(tree, overrides=overrides, base=path.absolute().parent, name=str(path))

    @classmethod
    def of_source(cls, source: str | Path | None, overrides: Sequence[str] = ()) -> Config:
        """Build the smallest configuration: a folder, .duckdb file or Ibis URL (None: frames); paths start here."""
        tree: dict[str, Any] = {} if source is None else {"data": {"source": str(source)}}
        return cls.from_dict(tree, overrides=overrides, base=Path.cwd(), name="configuration")

    @classmethod
    def from_dict(
        cls,
        tree: Mapping[str, Any],
        *,
        overrides: Sequence[str] = (),
        base: str | Path | None = None,
        name: str = "configuration",
    ) -> Config:
        """Build a configuration from a plain mapping, such as `resolved` returned.

        Parameters
        ----------
        tree : mapping
        overrides : sequence of str
            As in `load`.
        base : str or Path, optional
            Where relative paths of `tree` start; the working directory by default.
        name : str
            What messages call it.
        """
        here = Path(base) if base is not None else Path.cwd()
        merged: dict[str, Any] = absolute({"output": "out", **tree}, here.absolute())
        for override in overrides:
            apply_override(merged, override)
        try:
            return cls.model_validate(merged)
        except pydantic.ValidationError as error:
            raise ConfigError(explain(error, merged, name)) from None

    @property
    def out(self) -> Path:
        """The output folder."""
        return Path(self.output)

    @property
    def spill(self) -> Path:
        """The folder for what does not fit into memory."""
        return Path(self.engine.spill) if self.engine.spill else self.out / ".spill"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store."""
        return self.mlflow.tracking_uri or f"sqlite:///{self.out / 'mlflow.db'}"

    @property
    def ledger_url(self) -> str:
        """The database of routing's decisions."""
        return self.routing.ledger or f"sqlite:///{self.out / 'ledger.db'}"

    def resolved(self) -> dict[str, Any]:
        """Return every key with its value, as plain JSON values; `from_dict` reads it back."""
        tree = self.model_dump(mode="json", by_alias=True)
        # a task that is null would read as one that is listed
        if tree["tasks"] is not None:
            tree["tasks"] = {name: task for name, task in tree["tasks"].items() if task is not None}
        return tree

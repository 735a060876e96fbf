"""The model as a value, and as a folder of text.

A saved model holds JSON and LightGBM's own text format, nothing that is run when it is loaded::

    manifest.json     format, version, and the SHA-256 of every other file
    model.json        task, columns and their vocabulary, what it was trained on
    catalogue.json    how its features are built
    dictionary.json   what each feature means
    blend.json        components, weights, calibration
    hazard.json       the curve of risk over time
    evaluation.json   how good it was, out of time, beside its baselines
    NAME.json         any other document of the model, such as its importance or the profile of its ideal partner
    blend.….txt       a long text of the state, such as a booster

The version of a model is a hash over these files: the same model has the same version and the same bytes wherever it
is saved. `partnerml.models._storage` writes and checks them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from partnerml.dataset import FeatureInfo
from partnerml.errors import InternalError, ModelError
from partnerml.manifests import first_of
from partnerml.models._binary import Columns
from partnerml.models._blend import Blend
from partnerml.models._storage import decode, encode, plain, read, version_of, write

if TYPE_CHECKING:
    from partnerml.models._hazard import DiscreteTimeHazard

BASE = "base"
_LIFELONG = "__ever"  # how the names of such features end
# the files of every model; a task may add its own
_PARTS = ("manifest", "model", "catalogue", "dictionary", "blend", "hazard", "evaluation")
_DOCUMENT = re.compile(r"[a-z][a-z0-9_]*")

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model: how its features are built, what it predicts, why, and how good it was.

    Attributes
    ----------
    task : mapping
        The task as JSON values.
    catalogue : mapping
        The features as JSON values, to be built again at any moment.
    dictionary : tuple of FeatureInfo
        What each feature means.
    columns : tuple of str
        The features that the model reads; found by name, so their order in a frame does not matter.
    vocabulary : mapping of str to tuple of str
        The values of each text column in training; any other value counts as missing.
    blend : Blend
        The scorer with its calibration.
    hazard : DiscreteTimeHazard or None
        P(T <= d) over days; None for a task without a curve.
    evaluation : mapping
        Metrics out of time, beside the baselines, as JSON values.
    training : mapping
        Until when, on which rows, with which seed, as JSON values.
    documents : mapping of str to mapping or list
        What else is kept with the model, by name, as JSON values: a file each.
    """

    task: Mapping[str, Any]
    catalogue: Mapping[str, Any]
    dictionary: tuple[FeatureInfo, ...]
    columns: tuple[str, ...]
    vocabulary: Mapping[str, tuple[str, ...]]
    blend: Blend
    hazard: DiscreteTimeHazard | None
    evaluation: Mapping[str, Any]
    training: Mapping[str, Any]
    documents: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # plain values now, so that a model is the same before it was saved and after it was loaded
        for name in ("task", "catalogue", "evaluation", "training", "documents"):
            object.__setattr__(self, name, plain(getattr(self, name), name))
        if wrong := [name for name in self.documents if name in _PARTS or not _DOCUMENT.fullmatch(name)]:
            raise InternalError(
                f"a document of a model is named by small letters, digits and _, and not {', '.join(_PARTS)}; "
                f"got {first_of(wrong)}"
            )
        names = sorted(self.blend.components)
        parts = {name: self.blend.components[name] for name in names}
        # sums of floats depend on their order: that of the files, then, before and after
        ordered = Blend(parts, {name: self.blend.weights[name] for name in names}, self.blend.calibrator)
        object.__setattr__(self, "blend", ordered)
        unknown = sorted(set(self._read()) - set(self.columns))
        if unknown:
            raise InternalError(f"the components read columns that the model does not list: {first_of(unknown)}")

    @classmethod
    def of(
        cls,
        *,
        task: Mapping[str, Any],
        catalogue: Any,
        dictionary: Sequence[FeatureInfo],
        blend: Blend,
        hazard: DiscreteTimeHazard | None = None,
        evaluation: Mapping[str, Any],
        training: Mapping[str, Any],
        documents: Mapping[str, Any] | None = None,
    ) -> Self:
        """Put a model together; columns and vocabulary are those that its components were fitted on.

        Parameters
        ----------
        task, evaluation, training : mapping
            JSON values; numbers of numpy and moments are taken too, and what is not finite becomes null.
        catalogue : mapping or object with ``to_dict``
            How the features are built.
        dictionary : sequence of FeatureInfo
            What the features mean.
        blend : Blend
            The scorer.
        hazard : DiscreteTimeHazard, optional
            The curve of risk.
        documents : mapping, optional
            What else is to be kept, by name: JSON values.
        """
        described = catalogue.to_dict() if hasattr(catalogue, "to_dict") else catalogue
        vocabulary: dict[str, tuple[str, ...]] = {}
        parts = [*blend.components.values(), *([] if hazard is None else [hazard.base_])]
        read = list(blend.feature_names_in_) + ([] if hazard is None else list(hazard.feature_names_in_))
        for part in parts:
            learnt = getattr(part, "columns_", None)
            if learnt is not None:
                vocabulary |= {name: values for name, values in learnt.vocabulary.items() if name in read}
        columns = tuple(str(name) for name in dict.fromkeys(read))
        known = tuple(dictionary)
        return cls(task, described, known, columns, vocabulary, blend, hazard, evaluation, training, documents or {})

    def with_documents(self, documents: Mapping[str, Any]) -> Self:
        """Return the model with more documents, JSON values by name; one of a name that is there takes its place.

        Raises
        ------
        InternalError
            If a name is that of another file of a model.
        """
        return dataclasses.replace(self, documents={**self.documents, **documents})

    def _read(self) -> list[str]:
        beyond = [] if self.hazard is None else list(self.hazard.feature_names_in_)
        return [*self.blend.feature_names_in_, *beyond]

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        facts = {
            "task": self.task,
            "columns": list(self.columns),
            "vocabulary": {name: list(values) for name, values in self.vocabulary.items()},
            "training": self.training,
        }
        documents = {
            "model": facts,
            "catalogue": self.catalogue,
            "dictionary": [info.to_dict() for info in self.dictionary],
            "blend": self.blend.to_state(),
            "hazard": None if self.hazard is None else self.hazard.to_state(),
            "evaluation": self.evaluation,
        }
        return encode(documents | dict(self.documents))

    @functools.cached_property
    def version(self) -> str:
        """First 12 hex digits of the SHA-256 over the names and bytes of all files."""
        return version_of(self._files)

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        """The features that scores with reasons are built from, in the order of the dictionary.

        The `columns`, and beside them what the words of a reason draw on: that logins fell from 14 to 3 is told from
        two counts, whichever of them the model reads.
        """
        from partnerml.models._explain import figures

        read = set(self.columns)
        told = {name for info in self.dictionary if info.name in read for name in figures(info)}
        return tuple(info.name for info in self.dictionary if info.name in read | told)

    @property
    def history_days(self) -> int:
        """The longest window of the `features`, in days; those of `lifelong` look further back."""
        built = set(self.features)
        return max((info.window_days or 0 for info in self.dictionary if info.name in built), default=0)

    @property
    def lifelong(self) -> tuple[str, ...]:
        """Those of the `features` that look at all that ever was: tables that are cut short change them."""
        return tuple(name for name in self.features if name.endswith(_LIFELONG))

    @property
    def horizon_days(self) -> float:
        """The days that the score looks ahead."""
        for block in (self.task, *(part for part in self.task.values() if isinstance(part, Mapping))):
            for name in ("horizon_days", "success_days"):
                if name in block:
                    return float(block[name])
        raise InternalError("the task of the model says no horizon_days")

    def aligned(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the model's columns in its order: numbers as float64, texts as categories of its vocabulary.

        Raises
        ------
        ModelError
            If a column is missing, or holds text where training had numbers or the other way round.
        """
        columns = Columns(self.columns, self.vocabulary)
        return columns.decode(columns.encode(X), X.index)

    def log_odds(self, X: pd.DataFrame) -> FloatArray:
        """Return the calibrated log-odds, shape (n,)."""
        return self.blend.decision_function(self.aligned(X))

    def predict_proba(self, X: pd.DataFrame) -> FloatArray:
        """Return the score of each row, the calibrated probability of label 1, shape (n,).

        Parameters
        ----------
        X : DataFrame of shape (n, at least len(columns))
            Features in any order; more of them are ignored.

        Raises
        ------
        ModelError
            If the columns are not those of the model; names them.
        """
        return np.asarray(expit(self.log_odds(X)))

    def contributions(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return what each feature adds to the log-odds of the score.

        Returns
        -------
        DataFrame of shape (n, n_features + 1)
            One column a feature that the score reads, and ``base``; a row sums to ``logit(score)``.
        """
        effects = self.blend.contributions(self.aligned(X))
        return pd.DataFrame(effects, index=X.index, columns=[*self.blend.feature_names_in_, BASE])

    def spread(self, X: pd.DataFrame) -> FloatArray:
        """Return how far the components, and the bags of one that has them, disagree about each row, shape (n,).

        The weighted standard deviation of the probabilities that each of them alone would give with the blend's
        calibration; 0 where the blend has one component. It is no standard error of the score.
        """
        aligned, said = self.aligned(X), {}
        for name, part in self.blend.components.items():
            bags = getattr(part, "by_bag", None)
            said[name] = part.decision_function(aligned) if bags is None else bags(aligned).T
        return self.blend.disagreement(said)

    def interval(self, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the interval of the mean probability of rows that are scored alike, two arrays of shape (n,).

        Parameters
        ----------
        scores : array-like of shape (n,)
            Scores of this model.

        Raises
        ------
        ModelError
            If the model was not judged in groups of similar rows.
        """
        groups = self.evaluation.get("groups")
        if not groups:
            raise ModelError("the evaluation of the model holds no intervals; train it again")
        from partnerml.models._intervals import GroupIntervals

        return GroupIntervals.from_dict(groups).interval(scores)

    def risk_curve(self, X: pd.DataFrame, days: Sequence[float], scores: ArrayLike | None = None) -> FloatArray:
        """Return P(T <= as_of + d) for each d in days, shape (n, len(days)).

        The curve of the hazard, shifted in log-odds so that it equals the score at the horizon: one risk, never two.

        Parameters
        ----------
        X : DataFrame
            Features.
        days : sequence of float
            Days ahead, within the grid of the hazard. A row never decreases over ascending days.
        scores : array-like of shape (n,), optional
            The scores of these rows, where they are at hand.

        Raises
        ------
        ModelError
            If the model has no hazard, or a day lies beyond its grid.
        """
        if self.hazard is None:
            raise ModelError(f"the model of {self.task.get('name', 'this task')} has no curve over time, only a score")
        from partnerml.models._hazard import shifted

        aligned = self.aligned(X)
        at = self.predict_proba(X) if scores is None else np.asarray(scores, dtype=np.float64)
        curve = self.hazard.cumulative(aligned, [*days, self.horizon_days])
        return shifted(curve[:, :-1], curve[:, -1], at)

    def save(self, folder: str | Path) -> Path:
        """Write the model, whole or not at all, and return the folder.

        Raises
        ------
        ModelError
            If the folder holds anything but a saved model; nothing in it is touched.
        """
        target = Path(folder)
        write(target, self._files)
        return target


def load_model(source: str | Path, *, store: str | Path | None = None) -> Model:
    """Load a saved model, or one of the registry.

    Parameters
    ----------
    source : str or Path
        A folder that `Model.save` wrote, or ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    store : str or Path, optional
        For the registry: the path of ``mlflow.db``, or a tracking URI.

    Raises
    ------
    ModelError
        If it is not a saved model, is damaged, or was written by a newer version; names the file.
    NoChampionError
        If the registry has no such model.
    """
    if str(source).startswith("models:"):
        if store is None:
            raise ModelError(f'{source} is a model of the registry; say which with store="out/mlflow.db"')
        from partnerml.models._registry import Registry

        return Registry(store).load(str(source))
    folder = Path(source)
    files = read(folder)
    try:
        model = _rebuilt(files)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelError(f"{folder} cannot be read by this version of partnerml ({error!r}); train it again") from error
    # what was read is what would be written: its version needs no second encoding
    model.__dict__["version"] = version_of(files)
    return model


def _rebuilt(files: Mapping[str, bytes]) -> Model:
    document = functools.partial(decode, files)
    facts, hazard = document("model"), document("hazard")
    if hazard is not None:
        from partnerml.models._hazard import DiscreteTimeHazard

        hazard = DiscreteTimeHazard.from_state(hazard)
    return Model(
        task=facts["task"],
        catalogue=document("catalogue"),
        dictionary=tuple(FeatureInfo.from_dict(info) for info in document("dictionary")),
        columns=tuple(facts["columns"]),
        vocabulary={name: tuple(values) for name, values in facts["vocabulary"].items()},
        blend=Blend.from_state(document("blend")),
        hazard=hazard,
        evaluation=document("evaluation"),
        training=facts["training"],
        documents={name: document(name) for name in _beyond(files)},
    )


def _beyond(files: Mapping[str, bytes]) -> list[str]:
    """Return the names of the documents that not every model has."""
    names = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    return sorted(name for name in names if name not in _PARTS)

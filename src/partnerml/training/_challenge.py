"""Whether a trained model becomes champion: it has to beat its baselines, and then the champion, on rows of its own.

The champion must not have learnt from the rows that it is judged on. Rows whose moment lies at or after the champion's
`until` are safe: it has seen nothing of what came after them. The new model speaks there by its replay, fitted at each
origin on what was known then; so neither has seen an outcome. A champion that was trained a short while ago has no such
rows yet: there the two recipes are compared, by the replays of both, on the rows that both have.

Either is fair only where both know as much. A replay by groups knows nothing of the partner that it speaks of, and one
with an embargo nothing of the last days: the champion as it was fitted knows both, and so does a replay of another
protocol.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import tasks
from partnerml.errors import InputError, ModelError
from partnerml.features import Catalogue
from partnerml.moments import moment as moment_of

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.models import Contest, Model, Registered, Registry
    from partnerml.tasks import Task
    from partnerml.training._recipe import Trained

REPLAY = "replay"  # the table of a run that holds the judged rows


def challenge(eco: Ecosystem, task: Task, trained: Trained, registry: Registry, *, until: dt.datetime) -> Contest:
    """Hold a trained model against its baselines and against the champion.

    Parameters
    ----------
    eco : Ecosystem
    task : Task
    trained : Trained
    registry : Registry
        Knows the champion.
    until : datetime
        What was known before it was used for training.
    """
    from partnerml.models import Contest

    verdict = trained.model.evaluation["verdict"]
    reason = str(verdict["reason"])
    if not verdict["promoted"]:
        return Contest(False, "no signal", reason)
    current = registry.current(task.name)
    if current is None:
        return Contest(True, "first", reason)
    if current.model_version == trained.model.version:
        return Contest(True, "same", f"it is the champion, byte for byte; {reason}", current.model_version)
    try:
        champion = registry.champion(task.name)
        return _against(eco, trained, champion, current, registry, until=until)
    except _NotComparableError as error:
        return Contest(True, "incomparable", f"{error}; on its own: {reason}", current.model_version)
    except ModelError as error:
        words = f"the champion cannot be asked ({error}); on its own: {reason}"
        return Contest(True, "incomparable", words, current.model_version)


class _NotComparableError(Exception):
    """Two models cannot be held against each other; says why."""


def _against(
    eco: Ecosystem, trained: Trained, champion: Model, current: Registered, registry: Registry, *, until: dt.datetime
) -> Contest:
    from partnerml.models import Contest, decide, enough

    if champion.task.get("label") != trained.model.task.get("label"):
        raise _NotComparableError("the champion predicts another label than the task now asks for")
    replay = trained.replay
    if replay.empty:
        raise _NotComparableError("rows without time leave nothing to compare with the champion on")
    seed = int(trained.model.training["seed"])
    ended = pd.Timestamp(champion.training["until"])
    fresh = _fresh(trained, ended)
    if enough(fresh["y"]):
        rows = fresh.assign(champion=_scores(eco, champion, trained, fresh, until=until))
        return decide(_sorted(rows), model=trained.model, champion=champion, which="fresh", seed=seed)
    rows = _common(trained, champion, registry.table(current, REPLAY))
    if enough(rows["y"]):
        return decide(_sorted(rows), model=trained.model, champion=champion, which="replayed", seed=seed)
    words = _why_open(trained.model, champion, fresh=len(fresh), common=len(rows))
    return Contest(False, "no rows", words, champion.version)


def _fresh(trained: Trained, ended: pd.Timestamp) -> pd.DataFrame:
    """Return the rows that the champion has not learnt from; none where the replay knows nothing of their partners.

    With an embargo a replay has seen as much as a champion whose training ended so many days earlier.
    """
    days, groups = _protocol(trained.model)
    if groups is not None:
        return trained.replay.iloc[:0]
    return trained.replay[(trained.replay["as_of"] >= ended + pd.Timedelta(days=days)).to_numpy()]


def _common(trained: Trained, champion: Model, said: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rows of both replays with what each says; none where the champion's was judged in another way."""
    keys = _keys(trained.model)
    alike = _judged_days(champion) == _judged_days(trained.model)
    alike = alike and _protocol(champion) == _protocol(trained.model)
    if said is None or not alike or not {*keys, "score"} <= set(said.columns):
        return trained.replay.iloc[:0]
    return trained.replay.merge(said[[*keys, "score"]].rename(columns={"score": "champion"}), on=keys, how="inner")


def _protocol(model: Model) -> tuple[float, int | None]:
    """Return how strictly a model was judged: the days of its embargo and the number of its groups."""
    # models from before either could be asked for tell neither
    told = model.evaluation.get("protocol") or {}
    groups = told.get("by_groups")
    return float(told.get("embargo_days") or 0), None if groups is None else int(groups)


def _why_open(model: Model, champion: Model, *, fresh: int, common: int) -> str:
    """Return in words why nobody can tell which of two models is better, and what to do about it."""
    ours, theirs = _protocol(model), _protocol(champion)
    days, groups = ours
    late = f"after {pd.Timestamp(champion.training['until']):%Y-%m-%d}, when the champion's training ended"
    if groups is not None:
        told = f"rows {late}, do not tell: the new model was judged by_groups {groups}, without the partner of a row"
    else:
        apart = f" (and the embargo of {days:g} days over)" if days else ""
        told = f"{fresh} rows with a known label lie {late}{apart}"
    if ours == theirs:
        few = f"its own backtest has {common} in common, judged alike: too few to tell who is better"
        return f"{told}, and {few}. Train again when more labels are mature"
    apart = f"{_in_words(*ours)} against {_in_words(*theirs)} of the champion"
    again = "" if groups is not None else "again when more labels are mature, "
    return (
        f"{told}, and the backtests of both are not judged alike ({apart}): nobody can tell who is better. Train "
        f"{again}{'or ' if again else ''}with the champion's evaluation, or promote the new one by hand"
    )


def _in_words(days: float, groups: int | None) -> str:
    return f"embargo_days {days:g} and {'no by_groups' if groups is None else f'by_groups {groups}'}"


def _keys(model: Model) -> list[str]:
    return list(model.task["key"])


def _judged_days(model: Model) -> int | None:
    """Return within how many days a model was judged, where that is fewer than its score tells."""
    days = model.training.get("judged_days")
    return None if days is None or days >= model.horizon_days else int(days)


def _said(champion: Model, X: pd.DataFrame, days: int | None) -> npt.NDArray[np.float64]:
    """Return the champion's probability of the event within some days, or within the horizon of its score."""
    scores = champion.predict_proba(X)
    return scores if days is None else champion.risk_curve(X, [days], scores)[:, 0]


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    # the bootstrap sums over rows in this order
    return rows.sort_values(["cluster", "as_of", "score"], kind="stable", ignore_index=True)


def _scores(
    eco: Ecosystem, champion: Model, trained: Trained, rows: pd.DataFrame, *, until: dt.datetime
) -> npt.NDArray[np.float64]:
    """Return what the champion says of some rows of the replay, shape (n,)."""
    days = _judged_days(trained.model)
    if trained.X is not None and _same_features(champion, trained.model, list(trained.X.columns)):
        return _said(champion, trained.X.loc[rows.index], days)
    task = tasks.Task.from_dict(trained.model.task)
    # where rows have moments of their own, those before the last one asked for are built: until takes them all in
    moments = sorted({*(moment_of(moment) for moment in rows["as_of"]), until})
    try:
        catalogue = Catalogue.from_dict(champion.catalogue)
        built = tasks.build_dataset(eco, task, as_of=moments, until=until, catalogue=catalogue)
    except InputError as error:
        raise _NotComparableError(f"the champion's features cannot be built ({error})") from error
    keys = _keys(trained.model)
    places = built.keys[keys].assign(_place=np.arange(len(built)))
    found = rows[keys].merge(places, on=keys, how="left")["_place"]
    if found.isna().any():
        raise _NotComparableError(f"{int(found.isna().sum())} of {len(rows)} rows have no features for the champion")
    return _said(champion, built.X.iloc[found.to_numpy(dtype=np.intp)], days)


def _same_features(champion: Model, model: Model, columns: Sequence[str]) -> bool:
    """Tell whether the champion's columns are among those at hand, and mean the same."""
    beside = [{k: v for k, v in each.catalogue.items() if k != "features"} for each in (champion, model)]
    return set(champion.columns) <= set(columns) and beside[0] == beside[1]

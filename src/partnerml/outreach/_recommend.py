"""A ranked list of partners to call: by risk, revenue at stake, and how much can be done about the reason."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from partnerml import outputs
from partnerml.config import OutreachConfig
from partnerml.errors import ConfigError, ModelError
from partnerml.features import Catalogue, Feature, build_rows
from partnerml.moments import is_midnight
from partnerml.outreach._kinds import Advice, advice
from partnerml.scoring import Scores, score

if TYPE_CHECKING:
    from partnerml.ecosystem import Ecosystem
    from partnerml.features import CellStore
    from partnerml.models import Model
    from partnerml.progress import Progress

_logger = logging.getLogger("partnerml")

COLUMNS = (
    *("rank", "partner_id", "name", "as_of", "score", "band", "trend", "revenue_at_risk", "actionability"),
    *("priority", "expected_value", "kind", "reason", "action", "model_version"),
)
REASONS = 6  # looked at for each partner: the three that scores tell may hold none that can be acted on
# what a spreadsheet would take for a formula
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@dataclasses.dataclass(frozen=True)
class Outreach:
    """Whom to call first, as of a moment.

    Attributes
    ----------
    as_of : datetime
        Zoned, UTC.
    model_version : str
        Of the churn model behind the scores.
    frame : DataFrame
        One row a partner to call, the most urgent first; the columns are `COLUMNS`.
    summary : mapping
        ``scored`` partners; ``worth_a_call``, those at or above the lowest score; ``paused``, those left out because
        they were contacted lately; ``contacts``; ``expected_churn``, how many of those to call are expected to go
        quiet, and ``expected_churn_of_all``; and in money ``expected_value`` with its 95 % range ``low`` to ``high``,
        ``cost``, and ``missed_value``, what calling the others that are worth it would bring. Without amounts these
        five are null. ``save_rate`` is that of the settings; at 1 the expected value is an upper limit.
    """

    as_of: dt.datetime
    model_version: str
    frame: pd.DataFrame
    summary: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.frame)

    def write(self, out: Path | str) -> Path:
        """Write ``OUT/outreach/date=YYYY-MM-DD/`` with the list as Parquet and CSV, whole or not at all.

        Returns
        -------
        Path
            The folder. In the CSV a text that a spreadsheet would run as a formula begins with an apostrophe.
        """
        if not is_midnight(self.as_of):
            raise ConfigError(
                f"outreach is written by day: as_of must be 00:00 UTC of one, got {self.as_of.isoformat()}"
            )
        folder = Path(out) / "outreach" / f"date={self.as_of:%Y-%m-%d}"
        with outputs.whole_folder(folder) as fresh:
            outputs.write_parquet(self.frame, fresh / "outreach.parquet")
            outputs.write_text(fresh / "outreach.csv", _csv(self.frame))
            outputs.write_json(fresh / "summary.json", dict(self.summary))
        return folder


def recommend_outreach(
    eco: Ecosystem,
    scored: Scores | Model,
    *,
    as_of: dt.datetime | str | None = None,
    capacity: int | None = None,
    settings: OutreachConfig | None = None,
    cells: CellStore | None = None,
    progress: Progress | None = None,
) -> Outreach:
    """Rank the partners to call.

    Parameters
    ----------
    eco : Ecosystem
        Tells the names, and who was contacted lately.
    scored : Scores or Model
        Of churn. A model is asked for scores with more reasons than they usually tell, so that one that can be acted
        on is found.
    as_of : datetime or str, optional
        The moment, where `scored` is a model.
    capacity : int, optional
        How many can be called; `settings.capacity` by default.
    settings : OutreachConfig, optional
        What a call costs and brings; the section ``outreach`` of the configuration by default.
    cells, progress : optional
        As in `score`.

    Returns
    -------
    Outreach

    Raises
    ------
    ModelError
        If the scores are not those of churn.
    InputError
        If the capacity is not a whole number of 1 or more.

    Notes
    -----
    Partners are ranked by ``score x value x actionability``, where value is the won revenue of the last 365 days (or
    `least_value`, if that is more), and actionability how much a call can do about the reasons. A call is expected to
    bring that times `save_rate`, less its cost; who is not worth the cost is not listed. Where no amounts are known,
    all partners are worth the same.
    """
    config = settings or eco.config.outreach
    scores = _scores(eco, scored, as_of, cells, progress)
    frame = scores.frame.sort_values("partner_id", ignore_index=True, kind="stable")
    lowest = eco.config.report.bands[0] if config.min_score is None else config.min_score
    worth = (frame["score"] >= lowest).to_numpy()
    paused = _contacted(eco, frame, scores.as_of, config, cells)
    candidates = frame[worth & ~paused].reset_index(drop=True)
    ranked, figures = _ranked(candidates, config, config.capacity if capacity is None else capacity)
    ranked = ranked.assign(
        rank=np.arange(1, len(ranked) + 1), name=_names(eco, ranked["partner_id"]), as_of=pd.Timestamp(scores.as_of)
    )
    summary = {
        "scored": len(frame),
        "worth_a_call": int(worth.sum()),
        "paused": int((worth & paused).sum()),
        "contacts": len(ranked),
        "expected_churn": float(np.sort(ranked["score"].to_numpy()).sum()),
        "expected_churn_of_all": float(np.sort(frame["score"].to_numpy()).sum()),
        "save_rate": config.save_rate,
        **figures,
    }
    return Outreach(scores.as_of, scores.model_version, ranked[list(COLUMNS)], summary)


def _scores(
    eco: Ecosystem,
    scored: Scores | Model,
    as_of: dt.datetime | str | None,
    cells: CellStore | None,
    progress: Progress | None,
) -> Scores:
    if isinstance(scored, Scores):
        task = scored.task
        if as_of is not None:
            raise ConfigError("as_of is that of the scores; leave it out, or give the model in their place")
    else:
        task = str(scored.task["name"])
    if task != "churn":
        raise ModelError(f"outreach ranks partners by the risk that they go quiet: it needs churn, got {task}")
    if isinstance(scored, Scores):
        return scored
    if as_of is None:
        raise ConfigError("as_of is needed to score with a model: the moment that the list is for")
    cuts = eco.config.report.bands
    return score(eco, scored, as_of=as_of, cuts=cuts, reasons=REASONS, cells=cells, progress=progress)


def _contacted(
    eco: Ecosystem, frame: pd.DataFrame, moment: dt.datetime, config: OutreachConfig, cells: CellStore | None
) -> npt.NDArray[np.bool_]:
    """Return who was contacted lately, by what was recorded before the moment, shape (n,)."""
    nobody = np.zeros(len(frame), dtype=bool)
    if not config.contact_events or not len(frame):
        return nobody
    if not eco.has("events"):
        raise ConfigError("outreach.contact_events names events, and there is no table events; leave the key out")
    features = tuple(Feature("events", kind, "count", f"{config.pause_days}d") for kind in config.contact_events)
    keys = pd.DataFrame({"partner_id": frame["partner_id"], "as_of": pd.Timestamp(moment)})
    rows = build_rows(eco, keys, catalogue=Catalogue(features, event_types=config.contact_events), cells=cells)
    lately = set(rows.keys["partner_id"][(rows.X > 0).any(axis=1)])
    return frame["partner_id"].isin(lately).to_numpy()


def _ranked(
    candidates: pd.DataFrame, config: OutreachConfig, capacity: int | None
) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Return the rows to call with their columns of the list, and the figures of the choice."""
    from partnerml.models import threshold_by_capacity

    found: list[Advice] = [advice(reasons, config.actionability, config.events) for reasons in candidates["reasons"]]
    can = np.array([each.actionability for each in found], dtype=np.float64)
    risk = candidates["score"].to_numpy(dtype=np.float64)
    at_risk = candidates["revenue_at_risk"].to_numpy(dtype=np.float64)
    in_money = bool(np.isfinite(at_risk).any()) or config.least_value > 0
    value = np.ones(len(candidates))
    if in_money:
        sold = np.nan_to_num(at_risk) / np.where(risk > 0, risk, 1.0)
        value = np.maximum(sold, config.least_value)
    elif config.cost_of_contact > 0:
        _logger.warning(
            "outreach.cost_of_contact (%g) is not weighed: no amounts are known; map deals.amount and deals.closed_at, "
            "or set outreach.least_value",
            config.cost_of_contact,
        )
    selection = threshold_by_capacity(
        risk,
        capacity=len(candidates) + 1 if capacity is None else capacity,
        value_saved=value,
        cost_of_contact=config.cost_of_contact if in_money else 0.0,
        success_rate=config.save_rate * can,
        keys=candidates["partner_id"].to_numpy(),
    )
    listed = candidates.assign(
        actionability=can,
        priority=risk * value * can,
        expected_value=selection.gain if in_money else np.nan,
        kind=[each.kind for each in found],
        reason=[each.reason for each in found],
        action=[each.action for each in found],
    )
    figures = selection.to_dict()
    told = {
        name: figures[name] if in_money else None for name in ("expected_value", "low", "high", "cost", "missed_value")
    }
    return listed.iloc[selection.ranked].reset_index(drop=True), told


def _names(eco: Ecosystem, partners: pd.Series) -> pd.Series:
    """Return the names of partners, null where there is none."""
    if not eco.has("partners", "name"):
        return pd.Series(None, index=partners.index, dtype="str")
    known = eco.table("partners").select("partner_id", "name").to_pandas().set_index("partner_id")["name"]
    return partners.map(known).astype("str")


def _csv(frame: pd.DataFrame) -> str:
    """Return the list as people open it: figures rounded, no text that a spreadsheet would run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    for row in frame.itertuples(index=False):
        writer.writerow([_cell(name, value) for name, value in zip(frame.columns, row, strict=True)])
    return buffer.getvalue()


def _cell(name: str, value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if name in ("score", "actionability") else f"{value:.2f}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d}"
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULAS) else text

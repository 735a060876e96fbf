"""A first run: a configuration, a synthetic programme, a night on it, and the leads of the morning after."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partnerml import nightly, outputs
from partnerml.errors import ConfigError
from partnerml.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from partnerml.routing import Decision
    from partnerml.synthetic import SyntheticEcosystem

CONFIG, NEW_LEADS, DECISIONS = "partnerml.yaml", "new-leads.csv", "decisions.parquet"
_DATA = "data"
_SEED = 0
_START, _MONTHS = "2024-01-01", 24
# the leads of the sample that are routed: the latest that no partner holds
_MOST_LEADS, _REFUSED = 25, ("declined", "expired", "withdrawn")
_MORNING = dt.timedelta(hours=9)

_TEMPLATE = """\
# Configuration of partnerml. What is not named here has its documented default; an unknown key is refused.
# Relative paths start at this file.

data:
  # A folder, a .duckdb file or an Ibis URL. Files in it (csv, csv.gz, parquet, jsonl) are raw tables by their stem;
  # those with a canonical name (partners, events, deals, ...) are taken as they are.
  source: data/

  # Map your own exports where names differ. Every column is a rename, a constant, or an expression in DuckDB's SQL:
  # tables:
  #   deals:
  #     from: opportunities
  #     columns:
  #       deal_id: Id
  #       partner_id: PartnerAccountId
  #       registered_at: CreatedDate
  #       amount: Amount
  #       role: {const: sourced}
  #       outcome: {expr: "case when IsWon then 'won' when IsClosed then 'lost' else 'open' end"}
  #     where: not IsDeleted
  #     lag: 2d            # rows without recorded_at are known this long after they happen

# Scores, models, reports and rejects go here.
output: out/

# A task that is not listed is not trained by `all`.
tasks:
  churn:
    horizon_days: 90         # how far ahead
    inactivity_days: 90      # the silence that counts as churn
    active_within_days: 90   # who is scored: partners active in these last days
  # close: {}                # how likely a partner is to win a lead that it was given; routing goes by it
  # fit: {}                  # which recruit will have a first success in time, by its traits
  # propensity: {}           # which account may become a partner; name what is known of accounts: traits.accounts

# Who gets a lead:
# routing:
#   policy: {kind: softmax}                  # explore a little; greedy takes the best always
#   offers: {answer_within: 24h, limit: 3}   # in business hours; offered to so many partners, one after the other
#   rules:
#     business_hours: {enabled: true}        # ask only partners that are at work
"""


@dataclasses.dataclass(frozen=True)
class Made:
    """What `init` wrote.

    Attributes
    ----------
    config : Path
    tables : mapping of str to int
        Rows of each sample table; empty without a sample.
    as_of : datetime or None
        The end of the sample: a date to score at.
    leads : Path or None
        Leads of the sample that nobody holds, to route.
    """

    config: Path
    tables: Mapping[str, int]
    as_of: dt.datetime | None
    leads: Path | None = None

    @property
    def morning(self) -> dt.datetime | None:
        """A moment to route at."""
        return None if self.as_of is None else self.as_of + _MORNING


@dataclasses.dataclass(frozen=True)
class Demo:
    """What a demo shows.

    Attributes
    ----------
    made : Made
    night : Night
    evaluation : mapping or None
        Of the champion; None if no model was promoted.
    scores : DataFrame or None
    names : mapping of str to str
        By id, as `nightly.names_of` returns them.
    decisions : sequence of Decision
        On the new leads; none where there is no model to route by.
    """

    made: Made
    night: nightly.Night
    evaluation: Mapping[str, Any] | None
    scores: pd.DataFrame | None
    names: Mapping[str, str]
    decisions: Sequence[Decision] = ()


def init(
    directory: str | Path,
    *,
    sample: bool = False,
    partners: int = 2000,
    force: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Write a commented configuration, and sample tables if asked for.

    Parameters
    ----------
    directory : str or Path
        Made where it is missing.
    sample : bool
        Write a synthetic programme to ``DIRECTORY/data``.
    partners : int
        How many partners it has.
    force : bool
        Write into a folder that is not empty: the configuration and the sample's tables are replaced, nothing else is
        touched.

    Raises
    ------
    ConfigError
        If the folder is not empty.
    """
    folder = Path(directory)
    progress = progress or Progress.silent()
    _check_empty(folder, force=force)
    if not sample:
        return Made(outputs.write_text(folder / CONFIG, _TEMPLATE), {}, None)
    from partnerml import synthetic

    with progress.stage(f"simulate {partners:,} partners"):
        world = synthetic.simulate(partners=partners, start=_START, months=_MONTHS, seed=_SEED)
        world.write(folder / _DATA)
    leads = _write_leads(world, folder / NEW_LEADS)
    # last: where it is, the sample is whole
    config = outputs.write_text(folder / CONFIG, _TEMPLATE.replace("  # close: {}  ", "  close: {}    "))
    return Made(config, {name: table.num_rows for name, table in world.tables.items()}, world.end, leads)


def run(directory: str | Path, *, partners: int = 1200, force: bool = False, progress: Progress | None = None) -> Demo:
    """Make a synthetic programme in a folder of its own, run a night on it, and route the leads of the morning.

    Parameters
    ----------
    directory : str or Path
    partners : int
        How many partners the programme has.
    force : bool
        As in `init`.
    progress : Progress, optional
        Where to show progress; silent by default.
    """
    import pandas as pd

    from partnerml.ecosystem import Ecosystem

    progress = progress or Progress.silent()
    made = init(directory, sample=True, partners=partners, force=force, progress=progress)
    assert made.as_of is not None, "a sample has an end"
    with Ecosystem.open(made.config) as eco:
        night = nightly.run(eco, as_of=made.as_of, progress=progress)
        champion = nightly.registry_of(eco.config).champion("churn") if "churn" in night.scores else None
        names, ledger = nightly.names_of(eco), eco.config.ledger_url
    decisions = [] if night.snapshot is None else _routed(made, night.snapshot, ledger, progress)
    return Demo(
        made=made,
        night=night,
        evaluation=None if champion is None else champion.evaluation,
        scores=pd.read_parquet(night.scores["churn"]) if "churn" in night.scores else None,
        names=names,
        decisions=decisions,
    )


def _routed(made: Made, snapshot: Path, ledger: str, progress: Progress) -> list[Decision]:
    """Route the new leads, and write the decisions beside the scores."""
    from partnerml.routing import Lead, Router, read_leads
    from partnerml.routing._decision_files import write_decisions

    if made.leads is None:
        return []
    with progress.stage("route"), Router.open(snapshot, ledger=ledger) as router:
        decisions = [router.route(Lead.of(row), now=made.morning) for row in read_leads(made.leads)]
    write_decisions(decisions, snapshot.parents[1] / DECISIONS)
    return decisions


def _write_leads(world: SyntheticEcosystem, path: Path) -> Path | None:
    """Write the latest leads that no partner holds, as a form on a web site would hand them over."""
    answers = world.tables["assignments"].select(["lead_id", "response"]).to_pylist()
    held = {answer["lead_id"] for answer in answers if answer["response"] not in _REFUSED}
    rows = [row for row in world.tables["leads"].to_pylist() if row["lead_id"] not in held]
    latest = sorted(rows, key=lambda row: (row["created_at"], row["lead_id"]))[-_MOST_LEADS:]
    if not latest:
        return None
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(latest[0])
    writer.writerows([_cell(value) for value in row.values()] for row in latest)
    return outputs.write_text(path, buffer.getvalue())


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ";".join(map(str, value))
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return "" if value is None else str(value)


def _check_empty(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder")
    if force or not folder.is_dir():
        return
    there = sorted(path.name for path in folder.iterdir())
    if there:
        raise ConfigError(
            f"the folder {folder} is not empty ({len(there)} entries, the first is {there[0]}); name another one, or "
            "give --force to write into it (nothing but the configuration and the sample's tables is replaced)"
        )

"""Features of a moment are the same from today's extract and from an extract of that moment: the whole catalogue."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from partnerml import tasks
from partnerml.ecosystem import Ecosystem
from partnerml.features import default_catalogue
from partnerml.synthetic import simulate

AS_OF = pd.Timestamp("2025-03-01", tz="UTC")
# what an extract of an earlier day shows of a deal that was open then
_OUTCOME = ("closed_at", "closed_recorded_at", "amount", "expected_close_at", "registration_status", "protected_until")


@pytest.fixture(scope="module")
def today():
    world = simulate(partners=150, months=20, seed=5)
    return {name: table.to_pandas() for name, table in world.tables.items()}


def as_seen_at(tables, moment):
    """Return the extract that somebody would have made just before a moment."""
    seen = dict(tables)
    for name, column in (
        ("events", "recorded_at"),
        ("certifications", "recorded_at"),
        ("deal_history", "valid_from"),
        ("partner_history", "valid_from"),
        ("leads", "created_at"),
        ("assignments", "assigned_at"),
    ):
        seen[name] = tables[name][tables[name][column] < moment]
    deals = tables["deals"][tables["deals"]["recorded_at"] < moment].copy()
    still_open = ~(deals["closed_recorded_at"] < moment)
    deals.loc[still_open, "outcome"] = "open"
    for column in _OUTCOME:
        deals[column] = deals[column].where(~still_open)
    seen["deals"] = deals
    seen["deal_partners"] = tables["deal_partners"][tables["deal_partners"]["deal_id"].isin(deals["deal_id"])]
    seen["deal_history"] = seen["deal_history"][seen["deal_history"]["deal_id"].isin(deals["deal_id"])]
    for name, column in (("partners", "left_at"), ("certifications", "revoked_at")):
        seen[name] = seen[name].assign(**{column: seen[name][column].where(seen[name][column] < moment)})
    return seen


def as_values(X):
    """Return texts as texts: which categories there are depends on the other rows."""
    return X.astype({name: object for name in X if isinstance(X[name].dtype, pd.CategoricalDtype)})


@pytest.mark.slow
def test_features_and_catalogue_are_those_of_an_extract_of_the_day(today):
    then = as_seen_at(today, AS_OF)
    assert len(then["events"]) < len(today["events"])
    assert (then["deals"]["outcome"] != today["deals"].loc[then["deals"].index, "outcome"]).any()
    built = []
    for tables in (today, then):
        with Ecosystem.from_frames(**tables) as eco:
            catalogue = default_catalogue(eco, before=AS_OF.to_pydatetime())
            built.append(tasks.build_dataset(eco, tasks.churn(), AS_OF, catalogue=catalogue, labels=False))
    now, before = built
    assert len(now) > 50
    assert now.dictionary == before.dictionary
    pd.testing.assert_frame_equal(now.keys, before.keys)
    pd.testing.assert_frame_equal(as_values(now.X), as_values(before.X), check_exact=True)
    informative = [name for name in now.X if now.X[name].nunique() > 1]
    assert len(informative) > 150


@pytest.mark.slow
def test_one_partner_at_one_moment_has_the_features_of_the_batch(today):
    """Serving parity: whoever else is asked for changes nothing, peers and shrunk rates included."""
    from partnerml.features import build_rows

    moments = [AS_OF, AS_OF + dt.timedelta(days=31)]
    with Ecosystem.from_frames(**today) as eco:
        catalogue = default_catalogue(eco, before=AS_OF.to_pydatetime())
        batch = tasks.build_dataset(eco, tasks.churn(), moments, catalogue=catalogue, labels=False)
        chosen = np.random.default_rng(0).choice(len(batch), 2, replace=False)
        for row in chosen:
            alone = build_rows(eco, batch.keys.iloc[[row]], catalogue=catalogue)
            expected = batch.X.iloc[[row]].reset_index(drop=True)
            pd.testing.assert_frame_equal(as_values(alone.X), as_values(expected), check_exact=True)

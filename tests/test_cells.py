"""Stored cells in the place of events: how they are kept is no part of what is scored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.conftest import UNTIL

from partnerml import nightly, score, tasks
from partnerml.config import Config
from partnerml.errors import ConfigError
from partnerml.features import CellStore
from partnerml.tasks._building import _mapping_of_events


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_scores_from_cells_are_those_from_events(eco, model, scores, tmp_path):
    cells = CellStore.open(tmp_path)
    assert cells.update(eco, UNTIL).rows_read > 0
    again = score(eco, model, as_of=UNTIL, cells=cells)
    pd.testing.assert_frame_equal(again.frame, scores.frame, check_exact=True)


def test_cells_are_kept_only_where_that_is_asked_for(eco):
    assert tasks.cells_of(eco, until=UNTIL) is None
    with pytest.raises(ConfigError, match="no cells to rebuild"):
        tasks.cells_of(eco, until=UNTIL, rebuild=True)


def test_how_features_are_kept_repeats_no_night():
    plain, kept, chosen = (
        nightly._meaning(Config.from_dict({"features": features}))
        for features in ({}, {"cells": True}, {"exclude": ["deals__*"]})
    )
    assert plain == kept != chosen


def test_cells_follow_the_mapping_and_not_the_place_of_the_files(tmp_path: Path):
    values = tmp_path / "types.csv"
    values.write_text("raw,type\nLogin,portal_login\n")

    def mapping(source: str, **block: object) -> str:
        columns = {"event_type": {"from": "Type", "values": str(values)}, "partner_id": "Id"}
        tables = {"events": {"from": "logins", "columns": columns, **block}}
        return _mapping_of_events(Config.from_dict({"data": {"source": source, "tables": tables}}))

    first = mapping("exports/2026-01-01")
    assert mapping("exports/2026-01-02") == first
    assert mapping("exports/2026-01-01", where="not IsDeleted") != first
    values.write_text("raw,type\nLogin,login\n")
    assert mapping("exports/2026-01-01") != first

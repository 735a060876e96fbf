"""The benchmarks compare like with like: every peer gives the engine's values, and a difference would be seen."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TYPES = ("login", "quote", "ticket")
PARTNERS = tuple(f"P{number}" for number in range(8))
CUT_OFFS = 3


@pytest.fixture(scope="module")
def modules():
    """The modules of the benchmarks, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import _harness
        import _join_peer
        import _pandas_peer

        yield {"harness": _harness, "join": _join_peer, "pandas": _pandas_peer}
    for name in ("_harness", "_join_peer", "_pandas_peer"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables as `bench/make_events.py` writes them, with rows on the edges, late ones, and a partner without any."""
    generator = np.random.default_rng(0)
    edges = pd.DatetimeIndex(["2025-01-01", "2024-12-25", "2025-02-01"])
    anywhere = pd.Timestamp("2023-12-01") + pd.to_timedelta(generator.integers(0, 500 * 86_400, 400), unit="s")
    occurred = edges.repeat(4).append(anywhere).sort_values().as_unit("us").tz_localize("UTC")
    n = len(occurred)
    late = pd.to_timedelta(np.where(generator.random(n) < 0.3, generator.integers(0, 40, n), 0), unit="D")
    events = pd.DataFrame(
        {
            "partner_id": generator.choice(PARTNERS[1:], n),
            "occurred_at": occurred,
            "recorded_at": (occurred + late).as_unit("us"),
            "event_type": generator.choice(TYPES, n, p=[0.7, 0.2, 0.1]),
            "value": generator.gamma(2.0, 50.0, n).round(2),
        }
    )
    joined = pd.Series(pd.Timestamp("2024-01-01", tz="UTC").as_unit("us"), index=range(len(PARTNERS)))
    months = pd.date_range("2025-01-01", periods=12, freq="MS", tz="UTC").as_unit("us")
    made = tmp_path_factory.mktemp("benchmark")
    events.to_parquet(made / "events.parquet")
    pd.DataFrame({"partner_id": PARTNERS, "joined_at": joined}).to_parquet(made / "partners.parquet")
    pd.DataFrame({"partner_id": PARTNERS * 12, "as_of": months.repeat(len(PARTNERS))}).to_parquet(
        made / "spine.parquet"
    )
    return made


@pytest.fixture(scope="module", params=[False, True], ids=["as it happened", "as it was recorded"])
def ours(request, modules, folder):
    """The engine's features, and whether recorded_at is enforced."""
    out = folder / f"ours_{request.param}.parquet"
    modules["harness"].build_ours(folder, out, standard=True, recorded=request.param, cut_offs=CUT_OFFS)
    return out, request.param


def _agreement(modules, folder, ours, other):
    standard = modules["harness"].names(modules["harness"].event_types(folder), standard=True)
    return modules["harness"].equal_rows(ours, other, dict(zip(standard, standard, strict=True)))


EQUAL = "32 features equal in 24 of 24 rows"


@pytest.mark.parametrize("style", ["texts", "categories", "tuned"])
def test_pandas_agrees(modules, folder, ours, tmp_path, monkeypatch, style):
    out, recorded = ours
    flags = ["--cut-offs", str(CUT_OFFS), "--style", style, *(["--recorded"] if recorded else [])]
    monkeypatch.setattr(sys, "argv", ["peer", str(folder), str(tmp_path / "peer.parquet"), *flags])
    modules["pandas"].main()
    assert _agreement(modules, folder, out, tmp_path / "peer.parquet") == EQUAL


def test_the_join_agrees(modules, folder, ours, tmp_path, monkeypatch):
    out, recorded = ours
    flags = ["--cut-offs", str(CUT_OFFS), *(["--recorded"] if recorded else [])]
    monkeypatch.setattr(sys, "argv", ["peer", str(folder), str(tmp_path / "peer.parquet"), *flags])
    modules["join"].main()
    assert _agreement(modules, folder, out, tmp_path / "peer.parquet") == EQUAL


def test_a_difference_is_seen(modules, folder, ours, tmp_path):
    out, _ = ours
    frame = pd.read_parquet(out)
    for change in ({"events__all__value__7d": 1e-3}, {"events__all__recency_days__ever": np.nan}):
        wrong = frame.copy()
        ((column, by),) = change.items()
        row = wrong["events__all__recency_days__ever"].first_valid_index()
        wrong.loc[row, column] += by
        wrong.to_parquet(tmp_path / "wrong.parquet")
        assert "equal in 23 of 24 rows: NOT EQUAL" in _agreement(modules, folder, out, tmp_path / "wrong.parquet")
    frame.iloc[:-1].to_parquet(tmp_path / "fewer.parquet")
    assert "23 of 24 rows: NOT EQUAL" in _agreement(modules, folder, out, tmp_path / "fewer.parquet")


def test_a_child_is_measured_and_a_failing_one_is_told(modules, tmp_path):
    spill = tmp_path / "spill"
    spill.mkdir()
    write = f"open({str(spill / 'x')!r}, 'wb').write(bytes(10**6))"
    code = f"import time; {write}; time.sleep(.4); print('0.25 s, 0.5 CPU s, 7 features')"
    run = modules["harness"].measure([sys.executable, "-c", code], spill=spill)
    assert run.seconds == 0.25
    assert run.spilled >= 1e-3
    assert run.cpu == 0.5
    # Linux counts the process that starts a child into the child's peak: here that is a worker with models in memory
    alone = f"import _harness; print(_harness.measure([{sys.executable!r}, '-c', {code!r}]).peak)"
    found = subprocess.run([sys.executable, "-c", alone], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert 0.005 < float(found.stdout) < 1
    with pytest.raises(SystemExit, match=r"(?s)failed with 1:.*oh dear"):
        modules["harness"].measure([sys.executable, "-c", "raise SystemExit('oh dear')"])


def test_bars_are_judged_the_right_way_round(modules):
    verdict = modules["harness"].verdict
    assert verdict(0.9, 1.0, "x the prototype") == "0.90 x the prototype (bar: at most 1): held"
    assert verdict(1.1, 1.0, "GB").endswith("NOT HELD")
    assert verdict(12.0, 10.0, "x", at_least=True) == "12.00 x (bar: at least 10): held"
    assert verdict(9.0, 10.0, "x", at_least=True).endswith("NOT HELD")


def test_scripts_are_read_without_heavy_imports():
    code = "import features, peers, sys; assert not {'duckdb', 'ibis', 'pandas', 'partnerml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)

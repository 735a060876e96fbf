"""Fit, propensity and close by the commands, from files to scores, cards and the page, as the demo runs churn."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from scipy.special import expit

from partnerml import Ecosystem, load_model, rebuild, score, tasks
from partnerml.cli import app
from partnerml.errors import ConfigError, InputError
from partnerml.report._tasks import HEADINGS
from partnerml.training import _recipe, run_all

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("four")]

START, END = pd.Timestamp("2024-01-01"), pd.Timestamp("2025-07-01")
AS_OF = "2025-07-01"
TASKS = ("fit", "propensity", "close")
COMMON = ["as_of", "task", "score", "percentile", "band", "trend", "reasons", "spread"]
COLUMNS = {
    "fit": ["partner_id", *COMMON, "median_days_to_success", "restricted_mean_days", "model_version"],
    "propensity": ["account_id", *COMMON, "is_probability", "nearest_partners", "model_version"],
    "close": ["lead_id", "partner_id", *COMMON, "model_version"],
}
KEYS = {"fit": ["partner_id"], "propensity": ["account_id"], "close": ["lead_id", "partner_id"]}
CONFIG = {
    "data": {"source": "data/"},
    "traits": {"accounts": ["industry", "certified"]},
    # few features, since close asks for them on hundreds of days
    "features": {
        "include": ["partners__partner_type__*", "partners__country__*", "accounts__*", "pair__place__level__*"]
    },
    "tasks": {"fit": {"success_days": 30}, "propensity": {}, "close": {"horizon_days": 30}},
}


def moments(rng: np.random.Generator, n: int) -> pd.DatetimeIndex:
    """Draw moments between start and end, in order."""
    days = np.sort(rng.uniform(0, (END - START).days, n))
    return pd.DatetimeIndex(START + pd.to_timedelta(days, unit="D")).floor("s")


def programme(seed: int = 0) -> dict[str, pd.DataFrame]:
    """A programme whose effects are large enough to be sure of on few rows."""
    rng = np.random.default_rng(seed)
    n = 500  # with fewer than 300 successes fit has no trees, and is quick
    partners = pd.DataFrame(
        {
            "partner_id": [f"p{i:03d}" for i in range(n)],
            "name": [f"Partner {i}" for i in range(n)],
            "joined_at": moments(rng, n),
            "partner_type": rng.choice(["reseller", "isv"], n),
            "country": rng.choice(["DE", "FR"], n),
        }
    )
    chance = expit(-2.5 + 2.5 * (partners["partner_type"] == "isv") + 2.5 * (partners["country"] == "DE"))
    first = partners["joined_at"] + pd.to_timedelta(rng.uniform(1, 29, n), unit="D").floor("s")
    deals = pd.DataFrame(
        {
            "deal_id": [f"d{i}" for i in range(n)],
            "partner_id": partners["partner_id"],
            "registered_at": partners["joined_at"],
            "outcome": "won",
            "closed_at": first,
            "amount": 100.0,
        }
    )
    deals = deals[(rng.random(n) < chance) & (first < END)]
    recruits = pd.DataFrame({"partner_id": ["r1", "r2"], "partner_type": ["isv", "reseller"], "country": ["DE", "FR"]})
    return {
        "partners": partners,
        "deals": deals,
        "recruits": recruits,
        **leads_given(rng, partners),
        "accounts": accounts(rng, partners),
    }


def leads_given(rng: np.random.Generator, partners: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Leads, mostly won by a partner of their own country, whoever that is."""
    n = 1_200
    created, country = moments(rng, n), rng.choice(["DE", "FR"], n)
    first = partners["joined_at"].searchsorted(created)
    chosen = partners.iloc[(rng.random(n) * np.maximum(first, 1)).astype(int)].reset_index(drop=True)
    won = rng.random(n) < expit(-1.5 + 3.0 * (chosen["country"] == country))
    closed = created + pd.to_timedelta(rng.uniform(1, 20, n), unit="D").floor("s")
    over = closed < END
    leads = pd.DataFrame({"lead_id": [f"l{i:04d}" for i in range(n)], "created_at": created, "country": country})
    assignments = pd.DataFrame(
        {
            "lead_id": leads["lead_id"],
            "partner_id": chosen["partner_id"],
            "assigned_at": created,
            "response": "accepted",
            "responded_at": created,
            "outcome": np.where(over, np.where(won, "won", "lost"), "open"),
            "closed_at": pd.Series(closed).where(over),
        }
    )
    return {"leads": leads, "assignments": assignments}


def accounts(rng: np.random.Generator, partners: pd.DataFrame) -> pd.DataFrame:
    """Companies without dates, some of which are partners."""
    n = 500
    industry, certified = rng.choice(["software", "retail"], n), rng.choice(["yes", "no"], n)
    like = rng.random(n) < expit(-4.0 + 3.0 * (industry == "software") + 3.0 * (certified == "yes"))
    is_partner = like & (rng.random(n) < 0.6)
    partner_id = pd.Series([None] * n, dtype=object)
    partner_id[np.flatnonzero(is_partner)] = partners["partner_id"].head(int(is_partner.sum())).to_numpy()
    return pd.DataFrame(
        {
            "account_id": [f"a{i:03d}" for i in range(n)],
            "name": [f"Account {i}" for i in range(n)],
            "is_partner": is_partner,
            "partner_id": partner_id,
            "industry": industry,
            "certified": certified,
        }
    )


@pytest.fixture(scope="module", autouse=True)
def few_origins() -> Iterator[None]:
    """Judge on five origins in the place of eight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recipe, "MAX_FOLDS", 5)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programme as files, and its configuration."""
    made = tmp_path_factory.mktemp("four")
    (made / "data").mkdir()
    for name, frame in programme().items():
        frame.to_csv(made / "data" / f"{name}.csv", index=False)
    (made / "partnerml.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return made


def partnerml(folder: Path, *arguments: str) -> Any:
    """Run a command and return what it says as JSON."""
    done = CliRunner().invoke(app, [*arguments, "-c", str(folder / "partnerml.yaml"), "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(folder: Path) -> dict[str, Any]:
    """What `train all` says of each task."""
    said = partnerml(folder, "train", "all", "--until", AS_OF)
    return {model["task"]: model for model in said["models"]}


@pytest.fixture(scope="module")
def scored(folder: Path, trained: dict[str, Any]) -> dict[str, Path]:
    """The files that `score all` writes."""
    said = partnerml(folder, "score", "all", "--as-of", AS_OF)
    return {found["task"]: Path(found["path"]) for found in said["scores"]}


@pytest.fixture(scope="module")
def eco(folder: Path) -> Iterator[Ecosystem]:
    with Ecosystem.open(folder / "partnerml.yaml") as opened:
        yield opened


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_task_is_trained_registered_and_judged(folder, trained):
    assert tuple(trained) == TASKS
    for task, said in trained.items():
        assert said["registered"] == f"models:/{task}/1"
        assert said["promoted"], said["verdict"]
        assert said["until"].startswith(AS_OF)
        model = load_model(f"models:/{task}@champion", store=folder / "out" / "mlflow.db")
        assert model.version == said["version"]
        assert model.task["name"] == task
        assert Path(said["card"]).is_dir()


def test_scores_are_whole(folder, trained, scored):
    assert set(scored) == set(TASKS)
    for task, path in scored.items():
        assert path == folder / "out" / "scores" / task / f"date={AS_OF}" / "scores.parquet"
        frame = pd.read_parquet(path, partitioning=None)
        assert list(frame.columns) == COLUMNS[task]
        assert len(frame) > 10
        assert not frame.duplicated(KEYS[task]).any()
        assert frame["score"].between(0, 1).all()
        assert frame["score"].nunique() > 1
        assert set(frame["task"]) == {task}
        assert set(frame["model_version"]) == {trained[task]["version"]}
        assert (frame["as_of"] == pd.Timestamp(AS_OF, tz="UTC")).all()
        texts = [reason["text"] for reasons in frame["reasons"] for reason in reasons]
        assert frame["reasons"].map(len).between(1, 3).all()
        assert all(texts)
        assert not any("__" in text for text in texts)


def test_scores_follow_the_truth(folder, scored):
    tables = {name: pd.read_csv(folder / "data" / f"{name}.csv") for name in ("partners", "leads", "accounts")}
    fit = pd.read_parquet(scored["fit"], partitioning=None).set_index("partner_id")["score"]
    assert fit["r1"] > 0.8
    assert fit["r2"] < 0.2
    close = pd.read_parquet(scored["close"], partitioning=None)
    close = close.merge(tables["leads"], on="lead_id").merge(tables["partners"], on="partner_id", suffixes=("", "_own"))
    same = close["country"] == close["country_own"]
    assert close["score"][same].mean() > close["score"][~same].mean() + 0.4
    propensity = pd.read_parquet(scored["propensity"], partitioning=None).merge(tables["accounts"], on="account_id")
    both = (propensity["industry"] == "software") & (propensity["certified"] == "yes")
    assert propensity["score"][both].min() > propensity["score"][~both].max()
    assert not propensity["is_probability"].any()
    assert propensity["nearest_partners"].map(len).between(1, 3).all()


def test_a_second_run_gives_the_same_bytes(folder, scored):
    first = {task: digest(path) for task, path in scored.items()}
    partnerml(folder, "score", "all", "--as-of", AS_OF)
    assert {task: digest(path) for task, path in scored.items()} == first


@pytest.mark.parametrize("task", TASKS)
def test_the_registered_model_gives_the_scores_of_the_file(folder, eco, scored, task):
    model = load_model(f"models:/{task}/1", store=folder / "out" / "mlflow.db")
    again = score(eco, model, as_of=AS_OF).frame.set_index(KEYS[task])["score"].sort_index()
    written = pd.read_parquet(scored[task], partitioning=None).set_index(KEYS[task])["score"].sort_index()
    assert again.to_dict() == written.to_dict()


@pytest.mark.parametrize("task", TASKS)
def test_the_card_is_that_of_the_champion(folder, trained, task):
    said = partnerml(folder, "card", task)
    assert trained[task]["version"] in json.dumps(said)
    card = folder / "out" / "models" / task / trained[task]["version"]
    assert {path.suffix for path in card.iterdir()} == {".html", ".md", ".svg"}
    assert all(trained[task]["version"] in path.read_text(encoding="utf-8") for path in card.glob("*.[hm]*"))


def test_the_page_has_a_part_for_each_task(folder, scored):
    partnerml(folder, "report")
    page = (folder / "out" / "reports" / AS_OF / "index.html").read_text(encoding="utf-8")
    assert [task for task in TASKS if HEADINGS[task].title not in page] == []


def test_a_night_trains_nothing_that_has_a_champion(folder, scored):
    first = {task: digest(path) for task, path in scored.items()}
    said = partnerml(folder, "nightly", "--as-of", AS_OF)
    assert set(said["scores"]) == set(TASKS)
    assert {task: digest(path) for task, path in scored.items()} == first


@pytest.mark.parametrize("task", ["fit", "close"])
def test_a_model_is_made_again(folder, eco, trained, task):
    model = load_model(f"models:/{task}@champion", store=folder / "out" / "mlflow.db")
    assert dt.datetime.fromisoformat(model.training["until"]) == END.tz_localize("UTC")
    assert rebuild(model, eco).version == trained[task]["version"]


def test_tasks_trained_at_the_same_time_give_the_same_models(folder, eco, trained):
    # judged on groups of rows: the five origins of this module are nothing to other processes
    task = tasks.propensity()
    both = run_all(eco, [task, task], until=AS_OF, jobs=2)
    assert {outcome.version for outcome in both} == {trained["propensity"]["version"]}
    assert {outcome.registered for outcome in both} == {trained["propensity"]["registered"]}
    assert not any((folder / "out" / ".spill").iterdir())


def test_a_process_that_is_killed_ends_the_run_with_what_to_do(eco):
    def training() -> set[Any]:
        # beside them there is the process that hands on what they log
        return {child for child in multiprocessing.active_children() if child.name.startswith("SpawnProcess")}

    before = training()

    def kill() -> None:
        while not (started := training() - before):
            time.sleep(0.05)
        for child in started:
            child.kill()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(kill)
        with pytest.raises(InputError, match=r"killed while propensity was waited for.*try fewer jobs"):
            run_all(eco, [tasks.propensity()] * 2, until=AS_OF, jobs=2)
    assert not set(multiprocessing.active_children()) - before


def test_jobs_that_cannot_be(eco):
    with pytest.raises(ConfigError, match="at least 1"):
        run_all(eco, [tasks.propensity()], jobs=0)
    with (
        Ecosystem.from_frames(partners=pd.DataFrame({"partner_id": ["p"]})) as held,
        pytest.raises(ConfigError, match="tables in memory cannot be given to other processes"),
    ):
        run_all(held, [tasks.fit(), tasks.propensity()], jobs=2)

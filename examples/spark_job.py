"""A job for a cluster: features and churn scores of every active partner as of a day, on Spark.

    spark-submit examples/spark_job.py --tables s3a://lake/canonical --model model --as-of 2026-06-01 --out s3a://lake/churn
    python examples/spark_job.py

The folder of tables holds NAME.parquet for each canonical table; the model is a folder that `Model.save` wrote. Without
arguments, both are made up, and the job runs on this machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from pathlib import Path

from partnerml import Ecosystem, spark, tasks, train
from partnerml.config import Config
from partnerml.synthetic import simulate

NAMES = ("partners", "partner_history", "events", "deals", "deal_partners", "deal_history", "certifications")
# few features, so that the example is quick: planning hundreds of them takes Spark minutes, whatever the rows
FEW = {"features": {"include": ["events__all__count__30d", "events__all__count__90d"]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", help="a folder with NAME.parquet for each canonical table")
    parser.add_argument("--names", nargs="+", default=NAMES, help="the tables that are there")
    parser.add_argument("--model", help="a folder that Model.save wrote")
    parser.add_argument("--as-of", type=dt.date.fromisoformat, help="a day: what was known at 00:00 UTC of it")
    parser.add_argument("--out", help="a folder that is not there yet")
    given = parser.parse_args()
    if given.tables is not None:
        run(given.tables, given.names, given.model, given.as_of, given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        names, as_of = made_up(Path(folder))
        run(f"{folder}/canonical", names, f"{folder}/model", as_of, f"{folder}/churn")


def run(tables: str, names: list[str], model: str, as_of: dt.date, out: str) -> None:
    """Read canonical tables, write features, score them, write scores; no row passes through this process."""
    session = spark.session()
    with spark.ecosystem({name: f"{tables}/{name}.parquet" for name in names}, session=session) as eco:
        spark.write_features(eco, model, f"{out}/features", as_of=as_of)
    features = session.read.parquet(f"{out}/features")
    spark.score(features, model).write.parquet(f"{out}/scores")

    scores = session.read.parquet(f"{out}/scores")
    print(f"{scores.count()} active partners as of {as_of}, {len(features.columns) - 2} features")
    for row in scores.orderBy(scores.score.desc(), "partner_id").limit(5).collect():
        print(f"  {row.partner_id}  {row.score:.0%}")


def made_up(folder: Path) -> tuple[list[str], dt.date]:
    """Map, validate and train on one machine, and leave canonical tables and a model for the cluster."""
    world = simulate(partners=400, months=24, seed=0)
    config = Config.from_dict({**FEW, "output": str(folder)}, name="example")
    with Ecosystem.from_frames(now=world.end, config=config, **world.tables) as eco:
        names = [name for name in NAMES if eco.has(name)]
        (folder / "canonical").mkdir()
        for name in names:
            eco.backend.to_parquet(eco.table(name), folder / "canonical" / f"{name}.parquet")
        train(eco, tasks.churn(horizon_days=90), until=world.end).save(folder / "model")
    return names, world.end.date()


if __name__ == "__main__":
    main()

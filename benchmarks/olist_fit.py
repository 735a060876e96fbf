"""Partner fit on real data: merchants that Olist signed, by the public commands, beside Kaplan and Meier's rate.

    python benchmarks/olist_fit.py [--data ../shared/data/olist] [--until 2018-04-20] [--test-until 2018-06-02]

Trains on merchants signed before UNTIL by what was known then, most of them censored, and scores those signed from then
to TEST-UNTIL, each as it was signed; only then looks at who sold within 90 days.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _olist as olist
import numpy as np
import pandas as pd
from _tables import print_report

from partnerml import Ecosystem, load_model, tasks
from partnerml.models import KaplanMeier, evaluate, perfect_ece

MATURE = "2018-09-01"


def main() -> None:
    parser = olist.parser(__doc__, until="2018-04-20")
    parser.add_argument("--test-until", default="2018-06-02")
    arguments = olist.given(parser)
    if arguments is None:
        return
    with tempfile.TemporaryDirectory() as out:
        olist.command("train", "fit", "--until", arguments.until, data=arguments.data, out=out)
        compare(Path(out), arguments)


def compare(out: Path, arguments: argparse.Namespace) -> None:
    """Print the table: the model beside the rate that Kaplan and Meier's estimate gives on its training rows."""
    model = load_model("models:/fit/1", store=out / "mlflow.db")
    task = tasks.Task.from_dict(model.task)
    overrides = [f"data.source={arguments.data}", f"output={out}"]
    with Ecosystem.open(olist.CONFIG, overrides=overrides) as eco:
        train = tasks.build_dataset(eco, task, as_of=arguments.until, until=arguments.until, catalogue=model.catalogue)
        test = tasks.build_dataset(eco, task, as_of=MATURE, until=MATURE, catalogue=model.catalogue)
    first, last = (pd.Timestamp(day, tz="UTC") for day in (arguments.until, arguments.test_until))
    test = test.where(((test.as_of >= first) & (test.as_of <= last)).to_numpy())
    rate = KaplanMeier.of(train.times["duration_days"], train.times["observed"]).event_rate(task.horizon_days)
    said = {"model": model.predict_proba(test.X), "Kaplan and Meier": np.full(len(test), rate)}
    report = evaluate(test.y.to_numpy(), said, test.keys["partner_id"].to_numpy(), n_boot=2000)
    show(report, perfect_ece(said["model"]).to_dict())
    seen = int(train.mature.sum())
    print(f"trained on {len(train)} merchants, {seen} of them mature; blend {dict(model.blend.weights)}")
    print(f"judged at {model.training['judged_days']} days: {model.evaluation['verdict']['reason']}")


def show(report: dict, perfect: dict) -> None:
    """Print metrics with intervals, the paired difference, and what a perfect model would show."""
    title = f"Olist fit: {report['rows']} merchants signed in the test period"
    print_report(report, title=title, unit="merchants")
    for name, differences in report["differences"].items():
        print(f"bar: Brier not worse than {name} beyond the interval: {differences['brier']['low'] <= 0}")
    rate = report["models"]["model"]["base_rate"]["estimate"]
    print(f"share that succeeded {rate:.4f}")
    print(f"a perfectly calibrated model's ECE on these rows: {perfect}")


if __name__ == "__main__":
    main()

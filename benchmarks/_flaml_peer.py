"""FLAML on rows that partnerml wrote: fits in its own environment, writes its probabilities, prints how long it took.

    python benchmarks/_flaml_peer.py FOLDER OUT --seconds 60 [--split time|stratified] [--seed 0]

FOLDER holds ``train.parquet`` (features, ``y``, rows in the order of time) and ``test.parquet`` (features).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd

LABEL = "y"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--split", choices=("time", "stratified"), default="stratified")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from flaml import AutoML

    train, test = (pd.read_parquet(args.folder / f"{name}.parquet") for name in ("train", "test"))
    X, y = train.drop(columns=LABEL), train[LABEL].astype(int)
    start = time.perf_counter()
    automl = AutoML()
    automl.fit(
        X,
        y,
        task="classification",
        metric="log_loss",
        time_budget=args.seconds,
        split_type=args.split,
        n_jobs=args.threads,
        seed=args.seed,
        verbose=0,
    )
    said = automl.predict_proba(test)[:, 1]
    seconds = time.perf_counter() - start
    pd.DataFrame({"p": said}).to_parquet(args.out)
    tried = len(automl.config_history)
    print(f"{seconds:.2f} s, {X.shape[1]} features, best {automl.best_estimator} of at least {tried} trials")


if __name__ == "__main__":
    main()

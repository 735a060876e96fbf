"""From a made-up partner programme to churn scores with reasons.

    python examples/quickstart.py [--partners 1000]

Simulates two years of a programme, checks the tables, trains on what was known at the end, scores, and prints the ten
partners to call first.
"""

from __future__ import annotations

import argparse

from partnerml import Ecosystem, Model, Scores, score, tasks, train
from partnerml.synthetic import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partners", type=int, default=1000)
    partners = parser.parse_args().partners

    world = simulate(partners=partners, months=24, seed=0)
    with Ecosystem.from_frames(now=world.end, **world.tables) as eco:
        report = eco.validate()
        report.raise_for_errors()
        print(f"{sum(report.rows.values()):,} rows in {len(report.rows)} tables, {len(report.violations)} remarks")
        task = tasks.churn(horizon_days=90)
        model = train(eco, task, until=world.end)
        scores = score(eco, model, as_of=world.end)
    tell_model(model)
    tell_partners(scores)


def tell_model(model: Model) -> None:
    """How good it was out of time, beside its baselines."""
    print(f"\nmodel {model.version}, judged on {model.evaluation['rows']:,} rows that it had not seen")
    for name, metrics in model.evaluation["models"].items():
        auc, loss = metrics["auc"], metrics["log_loss"]
        print(
            f"  {name:10} AUC {auc['estimate']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
            f"   log loss {loss['estimate']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}]"
        )
    print(f"  {model.evaluation['verdict']['reason']}")


def tell_partners(scores: Scores) -> None:
    """Whom to call first, and why."""
    print(f"\n{len(scores):,} active partners; the ten with the most revenue at risk:")
    first = scores.frame.sort_values("revenue_at_risk", ascending=False).head(10)
    for partner in first.itertuples():
        print(f"  {partner.partner_id}  {partner.score:4.0%}  {partner.band:8}  {partner.revenue_at_risk:12,.0f}")
        for reason in partner.reasons:
            print(f"      {reason['effect']:+.2f}  {reason['text']}")


if __name__ == "__main__":
    main()

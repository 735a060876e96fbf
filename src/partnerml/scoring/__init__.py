"""Scores: one row a key, calibrated, with a percentile, a band, a trend and reasons in words."""

from __future__ import annotations

from partnerml.scoring._churn import needed, risk_curve
from partnerml.scoring._score import score
from partnerml.scoring._scores import BANDS, DEFAULT_CUTS, TREND_DAYS, TREND_POINTS, Scores, band, percentile, trend

__all__ = [
    "BANDS",
    "DEFAULT_CUTS",
    "TREND_DAYS",
    "TREND_POINTS",
    "Scores",
    "band",
    "needed",
    "percentile",
    "risk_curve",
    "score",
    "trend",
]

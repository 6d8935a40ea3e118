"""Metrics: pure functions from arrays to numbers, first of all the leaderboard score, exact and fast."""

from volumen.metrics.comparison import beats_noise, mean_and_noise, standard_error
from volumen.metrics.curve import CurvePoint, LeaderboardCurve, leaderboard_curve
from volumen.metrics.leaderboard import (
    LeaderboardScore,
    leaderboard,
    leaderboard_by_label,
    leaderboard_without_matching_tunnels,
)
from volumen.metrics.overlap import Overlap, Summary, overlap, summarise
from volumen.metrics.ratios import mean_of_known, ratio
from volumen.metrics.surface_dice import surface_dice
from volumen.metrics.topology import TopoScore, topo_score
from volumen.metrics.voi import VoiScore, voi_score

__all__ = [
    "CurvePoint",
    "LeaderboardCurve",
    "LeaderboardScore",
    "Overlap",
    "Summary",
    "TopoScore",
    "VoiScore",
    "beats_noise",
    "leaderboard",
    "leaderboard_by_label",
    "leaderboard_curve",
    "leaderboard_without_matching_tunnels",
    "mean_and_noise",
    "mean_of_known",
    "overlap",
    "ratio",
    "standard_error",
    "summarise",
    "surface_dice",
    "topo_score",
    "voi_score",
]

"""Compare a strategy with and without each rule: the effect of each, and how certain it is."""

from bt_risk.evidence.challenge import Challenge, challenge
from bt_risk.evidence.compare import compare
from bt_risk.evidence.comparison import Comparison
from bt_risk.evidence.halt_odds import HaltOdds, halt_probability
from bt_risk.evidence.shadow_book import ShadowBook, shadow_book
from bt_risk.evidence.sweep import Sweep, sweep
from bt_risk.evidence.sweep_space import Between
from bt_risk.evidence.walk_forward import WalkForward, walk_forward

__all__ = [
    "Between",
    "Challenge",
    "Comparison",
    "HaltOdds",
    "ShadowBook",
    "Sweep",
    "WalkForward",
    "challenge",
    "compare",
    "halt_probability",
    "shadow_book",
    "sweep",
    "walk_forward",
]

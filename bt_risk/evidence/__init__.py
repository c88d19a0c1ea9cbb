"""Evidence: with and without each rule, what was refused followed on paper, and how sure it is."""

from bt_risk.evidence.compare import Comparison, compare
from bt_risk.evidence.halt_odds import HaltOdds, halt_probability
from bt_risk.evidence.shadow_book import ShadowBook, shadow_book

__all__ = ["Comparison", "HaltOdds", "ShadowBook", "compare", "halt_probability", "shadow_book"]

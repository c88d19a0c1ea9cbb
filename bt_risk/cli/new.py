"""``bt-risk new``: a policy file to begin with."""

from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from bt_risk.cli.output_folder import make_folder
from bt_risk.errors import ParameterError, check_output
from bt_risk.policy import Policy

__all__ = ["new", "policy_text"]

_HEAD = """\
# A policy of bt_risk at its defaults, with costs as part of the risk. Ratios are fractions (0.01 is
# 1 %), durations are bars, and inf switches a limit off. docs/rules.md has every other key.
#
#   bt-risk run strategy.py:Cross --data prices.csv --policy {name}
#   bt_risk.protect(cerebro, "{name}")
"""
# The keys that matter, in groups, and the comment above each group.
_KEYS: dict[str, tuple[str, ...]] = {
    "Rule 1: what one position may lose at its stop, of equity; with commission, and with the\n"
    "# fraction of its price by which a stop may fill worse (false: without).": (
        "risk_limit",
        "costs_in_risk",
        "slippage",
    ),
    "Rule 2, size: a share of the Kelly fraction of the last trades (0.5 is half Kelly), and the\n"
    "# most that it may put at risk, of equity.": ("kelly_scale", "kelly_limit"),
    "Rule 2, stop: so many ATRs behind the price, each the mean of so many bars.": (
        "atr_multiple",
        "atr_period",
    ),
    "Rule 2, value: what one position may be worth, of equity.": ("notional_limit",),
    'Rule 3: what all positions of one direction may lose at their stops ("risk") or be worth\n'
    '# ("notional"), of equity.': ("exposure_limit", "exposure_unit"),
    "Rule 4: an entry is refused above this correlation with what is held, over so many bars.": (
        "correlation_limit",
        "window",
    ),
    'Rule 5: the drawdown at which everything is closed. Then "stop" ends the run, and "pause"\n'
    "# refuses entries for cooldown_bars.": ("drawdown_limit", "action"),
}
_PAUSE = "# cooldown_bars = 60\n"
_GUARD = """
# More rules that refuse entries, a table each (docs/rules.md has them all):
# [[guards]]
# guard = "DailyLossLimit"
# daily_loss_limit = 0.03
"""


def new(
    path: Annotated[Path, typer.Argument(help="TOML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a policy file to begin with: the keys that matter, at their defaults, with comments."""
    make_folder(path.parent, "new")
    check_output("new", "path", path)
    if path.exists() and not force:
        raise ParameterError("new", "path", "new", str(path), "Add --force to replace it.")
    path.write_text(policy_text(path.name), encoding="utf-8")
    typer.echo(f"wrote {path}")


def policy_text(name: str) -> str:
    """Return the text of the file of this name: the defaults of `Policy`, with costs as risk."""
    policy, parts = Policy(costs_in_risk=True), [_HEAD.format(name=name)]
    for comment, keys in _KEYS.items():
        values: dict[str, Any] = {key: getattr(policy, key) for key in keys}
        parts.append(f"\n# {comment}\n{tomli_w.dumps(values)}")
    return "".join([*parts, _PAUSE, _GUARD])

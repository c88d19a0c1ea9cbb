"""``bt-risk tiers``: the maintenance tiers of an exchange, as a file for `MarginAccount`."""

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer

from bt_risk.cli.options import Json
from bt_risk.cli.output_folder import make_folder
from bt_risk.errors import DataError, ParameterError, check_output, did_you_mean
from bt_risk.rules.leverage_tiers import leverage_tiers
from bt_risk.rules.margin import MarginTiers

__all__ = ["tiers"]

KEY, SECRET = "BT_RISK_EXCHANGE_KEY", "BT_RISK_EXCHANGE_SECRET"


def tiers(
    exchange: Annotated[
        str, typer.Argument(help="Name in ccxt (binanceusdm, bybit), or a JSON file of its answer.")
    ],
    symbols: Annotated[
        list[str],
        typer.Argument(
            metavar="SYMBOL...", help="BTC/USDT:USDT, or BTC=BTC/USDT:USDT for the feed BTC."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="TOML file to write; else it is printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the maintenance tiers of contracts as TOML, for MarginAccount(tiers="FILE").

    The variables BT_RISK_EXCHANGE_KEY and BT_RISK_EXCHANGE_SECRET hold the keys of an account,
    which Binance asks for. Needs bt_risk[live].
    """
    if out is not None:
        make_folder(out.parent, "tiers")
        check_output("tiers", "--out", out)
    names = _names(symbols)
    asked = _source(exchange)
    found = {name: _table(_tiers(exchange, asked, symbol)) for name, symbol in names.items()}
    if as_json:
        typer.echo(json.dumps({"exchange": exchange, "tiers": found}))
        return
    now = datetime.now(UTC)
    text = f"# Maintenance tiers of {Path(exchange).name}, {now:%Y-%m-%d %H:%M} UTC: floor, mmr, "
    text += f"max_leverage\n{tomli_w.dumps({'tiers': found})}"
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {out}")


def _names(symbols: list[str]) -> dict[str, str]:
    """Return the symbols by name of the data feed."""
    pairs = [one.rpartition("=") for one in symbols]
    names = {name or symbol: symbol for name, _, symbol in pairs}
    if len(names) < len(pairs):
        raise ParameterError("tiers", "SYMBOL", "of a different data feed each time", symbols)
    return names


def _source(exchange: str) -> Any:
    """Return what `leverage_tiers` asks: a saved answer, or an exchange of ccxt."""
    path = Path(exchange)
    if path.suffix == ".json":
        return _saved(path)
    try:
        import ccxt
    except ImportError as error:
        remedy = "pip install 'bt_risk[live]'"
        constraint = "asked where ccxt is installed"
        raise ParameterError("tiers", "EXCHANGE", constraint, exchange, remedy) from error
    if exchange not in ccxt.exchanges:
        remedy = did_you_mean(exchange, ccxt.exchanges).replace("; d", "D")
        constraint = "the name of an exchange in ccxt, or a file that ends in .json"
        raise ParameterError("tiers", "EXCHANGE", constraint, exchange, remedy)
    keys = {"apiKey": os.environ.get(KEY), "secret": os.environ.get(SECRET)}
    return getattr(ccxt, exchange)({name: value for name, value in keys.items() if value})


def _saved(path: Path) -> dict[str, Any]:
    """Return an answer of `fetch_leverage_tiers` that was saved."""
    remedy = ""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, ValueError) as error:
        remedy = f"{error}."
    raise ParameterError("tiers", "EXCHANGE", "a file of JSON, with one object", str(path), remedy)


def _tiers(name: str, source: Any, symbol: str) -> MarginTiers:
    """Return the tiers of a symbol; an error of ccxt is one line."""
    if isinstance(source, dict):
        return leverage_tiers(source, symbol)
    import ccxt

    try:
        return leverage_tiers(source, symbol)
    except ccxt.BaseError as error:
        raise DataError(f"tiers: {name} did not answer: {error}") from error


def _table(found: MarginTiers) -> Any:
    """Return tiers as a file has them: rows, with the cap where the venue has one."""
    rows = [[one.floor, one.mmr, one.max_leverage] for one in found]
    rows = [row if math.isfinite(row[2]) else row[:2] for row in rows]
    return {"cap": found.cap, "rows": rows} if math.isfinite(found.cap) else rows

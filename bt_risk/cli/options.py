"""The options that several verbs have, and what they stand for."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bt_risk.errors import ParameterError, check_fraction, check_positive, did_you_mean
from bt_risk.evidence.strategy_file import Script, parse_script
from bt_risk.policy import Policy

__all__ = [
    "Cash",
    "Commission",
    "Data",
    "Equity",
    "Json",
    "More",
    "Params",
    "PolicyFile",
    "Prices",
    "ScriptName",
    "Settings",
    "policy_of",
    "script_of",
    "value_of",
]

ScriptName = Annotated[
    str, typer.Argument(metavar="SCRIPT:Strategy", help="Strategy in a file: cross.py:Cross.")
]
More = Annotated[list[Path] | None, typer.Argument(metavar="FILE", hidden=True)]
Data = Annotated[
    list[Path] | None,
    typer.Option(help="Prices (CSV, gz or Parquet), one file per data feed: --data A B C."),
]
PolicyFile = Annotated[
    Path | None, typer.Option(help="Policy (TOML); the default policy when left out.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the policy: risk_limit=0.005."),
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the strategy: fast=20."),
]
Cash = Annotated[float, typer.Option(help="Currency at the start.")]
Commission = Annotated[float, typer.Option(help="Share of the notional, a side.")]
Prices = Annotated[
    list[Path] | None,
    typer.Option(help="Prices (CSV, gz or Parquet), one file per data feed: --prices A B C."),
]
Equity = Annotated[float, typer.Option(help="Currency of an account that holds nothing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def script_of(
    command: str,
    script: str,
    files: Iterable[list[Path] | None],
    params: Iterable[str] | None,
    cash: float,
    commission: float,
) -> Script:
    """Return the strategy of the command line with its data feeds, cash and commission.

    `files` are those of `Data` and of `More`. The Cerebro is built once, so that a mistake in a
    file raises here.
    """
    paths = [path for given in files for path in given or ()]
    if not paths:
        raise ParameterError(command, "--data", "given", "nothing", "Prices: --data FILE ...")
    names = [path.name.split(".")[0] for path in paths]
    if len(set(names)) < len(names):
        raise ParameterError(command, "--data", "files with different names", names)
    check_positive(command, "--cash", cash)
    check_fraction(command, "--commission", commission, zero=True, one=False)
    path, name = parse_script(script)
    values = _pairs(command, "--param", params)
    built = Script(path, name, tuple(map(str, paths)), cash, commission, tuple(values.items()))
    _check_keys(command, "--param", values, built.strategy().params._getkeys(), name)
    built()
    return built


def policy_of(command: str, file: Path | None, settings: Iterable[str] | None) -> Policy:
    """Return the policy of a file with some keys set, or the default one with them."""
    policy = Policy() if file is None else Policy.from_toml(file)
    values = _pairs(command, "--set", settings)
    _check_keys(command, "--set", values, [field.name for field in fields(Policy)], "a policy")
    return replace(policy, **values)


def _check_keys(
    command: str, option: str, given: Iterable[str], known: Sequence[str], of: str
) -> None:
    for key in given:
        if key not in known:
            remedy = did_you_mean(key, known).replace("; d", "D")
            raise ParameterError(command, option, f"a parameter of {of}", key, remedy)


def _pairs(command: str, option: str, pairs: Iterable[str] | None) -> dict[str, Any]:
    """Return the values of ``key=value`` by key; a value is TOML, or else a word."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ParameterError(command, option, "like name=value", pair)
        found[key.strip()] = value_of(text.strip())
    return found


def value_of(text: str) -> Any:
    """Return the value of a text: that of TOML, or else the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text

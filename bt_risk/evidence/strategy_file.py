"""The strategy file of a user, and the Cerebro that runs it: ``bt-risk run`` and ``compare``."""

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType
from typing import Any

import backtrader as bt
import pandas as pd

from bt_risk.errors import DataError, ParameterError
from bt_risk.feeds.files import read_prices
from bt_risk.feeds.frame import FrameData

__all__ = ["Script", "parse_script"]

COMMAND = "strategy file"


@dataclass(frozen=True)
class Script:
    """Build a Cerebro for the strategy of a file; a `Script` pickles, whatever the file contains.

    Attributes
    ----------
    path, name : str
        The file and the class in it.
    files : tuple of str
        Prices, one file for each data feed: CSV, gz or Parquet. The file's name is the feed's.
    cash : float
        Currency at the start.
    commission : float
        Share of the notional, each side.
    params : tuple of (str, value)
        Parameters of the strategy; its own defaults for the rest.
    """

    path: str
    name: str
    files: tuple[str, ...]
    cash: float = 100_000.0
    commission: float = 0.001
    params: tuple[tuple[str, Any], ...] = ()

    @property
    def title(self) -> str:
        """Return the strategy and its data feeds, as a heading."""
        return f"{self.name}: {', '.join(self._names())}"

    def _names(self) -> list[str]:
        return [Path(file).name.split(".")[0] for file in self.files]

    @property
    def __signature__(self) -> Signature:
        """Return what a call takes: the parameters of the strategy, as `inspect.signature` asks."""
        names = self.strategy().params._getkeys()
        return Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in names])

    def __call__(self, **params: Any) -> bt.Cerebro:
        """Return a new Cerebro, with other parameters of the strategy where some are given."""
        cerebro = bt.Cerebro(stdstats=False)
        for file, name in zip(self.files, self._names(), strict=True):
            cerebro.adddata(FrameData(dataname=_prices(file)), name=name)
        cerebro.addstrategy(self.strategy(), **dict(self.params) | params)
        cerebro.broker.setcash(self.cash)
        cerebro.broker.setcommission(self.commission)
        return cerebro

    def strategy(self) -> type[bt.Strategy]:
        """Return the class; ParameterError if the file lacks it, DataError if the import fails."""
        found = getattr(_module(self.path), self.name, None)
        if not (isinstance(found, type) and issubclass(found, bt.Strategy)):
            constraint = f"a bt.Strategy of {self.path}"
            remedy = f"It has {', '.join(self._strategy_names()) or 'none'}."
            raise ParameterError(COMMAND, "SCRIPT:Strategy", constraint, self.name, remedy)
        return found

    def _strategy_names(self) -> list[str]:
        """Return the names of the strategies that the file defines."""
        module = _module(self.path)
        return [
            name
            for name, one in vars(module).items()
            if isinstance(one, type)
            and issubclass(one, bt.Strategy)
            and one.__module__ == module.__name__
        ]


def parse_script(text: str) -> tuple[str, str]:
    """Return path and name of ``strategy.py:Cross``."""
    path, _, name = text.rpartition(":")
    if not path or not name.isidentifier():
        raise ParameterError(COMMAND, "SCRIPT:Strategy", "like strategy.py:Cross", text)
    if not Path(path).is_file():
        raise ParameterError(COMMAND, "SCRIPT:Strategy", "an existing file and a class in it", text)
    return path, name


@cache
def _prices(file: str) -> pd.DataFrame:
    return read_prices(file)


def _module(file: str) -> ModuleType:
    """Import the file once in a process; as for a script, its own folder comes first."""
    path = Path(file).resolve()
    name = f"bt_risk_script_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ParameterError(COMMAND, "SCRIPT:Strategy", "a Python file", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    # Backtrader looks up the module of a strategy by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DataError(f"{COMMAND}: {path} cannot be imported: {error!r}.") from error
    finally:
        sys.path.remove(str(path.parent))
    return module

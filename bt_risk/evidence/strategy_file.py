"""A strategy in a file of the user's, and the Cerebro that runs it: ``bt-risk compare``."""

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import backtrader as bt

from bt_risk.errors import DataError, ParameterError
from bt_risk.feeds.files import read_prices
from bt_risk.feeds.frame import FrameData

__all__ = ["Script", "parse_script"]

HERE = "bt-risk compare"


@dataclass(frozen=True)
class Script:
    """Build a Cerebro of a strategy in a file; it pickles, whatever the file holds.

    Attributes
    ----------
    path, name : str
        The file and the class in it.
    files : tuple of str
        Prices, one file for each data: CSV, gz or Parquet. A data is named after its file.
    cash : float
        Currency at the start.
    commission : float
        Share of the notional, each side.
    """

    path: str
    name: str
    files: tuple
    cash: float = 100_000.0
    commission: float = 0.001

    def __call__(self):
        """Return a new Cerebro."""
        cerebro = bt.Cerebro(stdstats=False)
        names = [Path(file).name.split(".")[0] for file in self.files]
        for file, name in zip(self.files, names, strict=True):
            cerebro.adddata(FrameData(dataname=_prices(file)), name=name)
        cerebro.addstrategy(self.strategy())
        cerebro.broker.setcash(self.cash)
        cerebro.broker.setcommission(self.commission)
        return cerebro

    def strategy(self):
        """Return the class; ParameterError if it is not there, DataError if the file fails."""
        found = getattr(_module(self.path), self.name, None)
        if not (isinstance(found, type) and issubclass(found, bt.Strategy)):
            constraint = f"a bt.Strategy of {self.path}"
            remedy = f"It has {', '.join(self._known()) or 'none'}."
            raise ParameterError(HERE, "SCRIPT:Strategy", constraint, self.name, remedy)
        return found

    def _known(self):
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
        raise ParameterError(HERE, "SCRIPT:Strategy", "like strategy.py:Cross", text)
    if not Path(path).is_file():
        raise ParameterError(HERE, "SCRIPT:Strategy", "an existing file and a class in it", text)
    return path, name


@cache
def _prices(file):
    return read_prices(file)


def _module(path):
    """Import the file once in a process, as a script would see it: its own folder comes first."""
    path = Path(path).resolve()
    name = f"bt_risk_script_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ParameterError(HERE, "SCRIPT:Strategy", "a Python file", str(path))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    # Backtrader looks the module of a strategy up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DataError(f"{HERE}: {path} cannot be imported: {error!r}.") from error
    finally:
        sys.path.remove(str(path.parent))
    return module

"""Build the broker and the data feeds that a factory of the user returns."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backtrader as bt

from bt_risk.errors import DataError, ParameterError
from bt_risk.gate.broker import RiskBroker

__all__ = ["Factory", "Setup", "build"]

_RESULT = (
    "a callable that returns a live broker, (broker, data feed or list of them), or a bt.Cerebro "
    "without a strategy"
)
_BARE = "The store is checked without bt_risk: return its own broker."


@dataclass(frozen=True)
class Factory:
    """Call a function of a module or file by name; a `Factory` pickles, whatever the file has.

    Attributes
    ----------
    text : str
        ``module:make_broker`` or ``file.py:make_broker``.
    """

    text: str

    def __call__(self) -> Any:
        """Return what the function returns."""
        return self.function()()

    def function(self) -> Callable[[], Any]:
        """Return the function; ParameterError where there is none, DataError if an import fails."""
        module, _, name = self.text.rpartition(":")
        if not module or not name.isidentifier():
            raise ParameterError("doctor", "FACTORY", "like my_store.py:make_broker", self.text)
        path = Path(module)
        folder = str(path.resolve().parent if path.suffix == ".py" else Path.cwd())
        if path.suffix == ".py" and not path.is_file():
            raise ParameterError("doctor", "FACTORY", "an existing file and a function", self.text)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            found = importlib.import_module(path.stem if path.suffix == ".py" else module)
        except Exception as error:  # whatever the user's module raises
            raise DataError(f"doctor: {module} cannot be imported: {error!r}.") from error
        function: Callable[[], Any] | None = getattr(found, name, None)
        if not callable(function):
            raise ParameterError("doctor", "FACTORY", f"a function of {module}", name)
        return function


@dataclass
class Setup:
    """A Cerebro with the broker and the data feeds that are checked, and no strategy."""

    cerebro: bt.Cerebro
    broker: Any
    datas: list[Any]

    def name(self, data: Any) -> str:
        """Return the name under which `protect` knows a data feed."""
        return getattr(data, "_name", "") or f"data{self.datas.index(data)}"

    def choose(self, name: str | None) -> Any:
        """Return the data feed with a name, the first one by default, None where there is none."""
        if name is None:
            return self.datas[0] if self.datas else None
        names = [self.name(data) for data in self.datas]
        if name not in names:
            listed = f"one of {', '.join(names)}" if names else "left out: there is no data feed"
            raise ParameterError("check_store", "data", listed, name)
        return self.datas[names.index(name)]


def build(make_broker: Any) -> Setup:
    """Return a new broker and its data feeds in a Cerebro; ParameterError for anything else."""
    if not callable(make_broker):
        raise ParameterError("check_store", "make_broker", _RESULT, make_broker)
    made = make_broker()
    cerebro = made if isinstance(made, bt.Cerebro) else bt.Cerebro(stdstats=False)
    if made is not cerebro:
        broker, feeds = made if isinstance(made, tuple) and len(made) == 2 else (made, [])
        feeds = list(feeds) if isinstance(feeds, list | tuple) else [feeds]
        if not all(isinstance(feed, bt.feed.AbstractDataBase) for feed in feeds):
            raise ParameterError("check_store", "make_broker", _RESULT, made)
        _check_broker(broker, made)
        for feed in feeds:
            cerebro.adddata(feed)
        cerebro.setbroker(broker)
    broker = cerebro.broker
    _check_broker(broker, made)
    if cerebro.strats:
        raise ParameterError("check_store", "make_broker", _RESULT, made, "It has a strategy.")
    if any(type(store).__module__ == "bt_risk.protection" for store in cerebro.stores):
        raise ParameterError("check_store", "make_broker", _RESULT, made, _BARE)
    return Setup(cerebro, broker, list(cerebro.datas))


def _check_broker(broker: Any, made: Any) -> None:
    if isinstance(broker, RiskBroker):
        raise ParameterError("check_store", "make_broker", _RESULT, broker, _BARE)
    if isinstance(broker, bt.brokers.BackBroker):
        remedy = "Backtrader's own simulation needs no settings."
        raise ParameterError("check_store", "make_broker", _RESULT, broker, remedy)
    if not all(callable(getattr(broker, name, None)) for name in ("buy", "sell", "getposition")):
        raise ParameterError("check_store", "make_broker", _RESULT, made)

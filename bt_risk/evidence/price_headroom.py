"""What a policy lets pass on prices: orders that nobody sends, in an account that holds nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import backtrader as bt

from bt_risk.errors import ParameterError, check_fraction, check_positive
from bt_risk.evidence.runner import quiet
from bt_risk.feeds.files import read_prices
from bt_risk.feeds.frame import FrameData
from bt_risk.gate.headroom import Headroom
from bt_risk.policy import Policy
from bt_risk.protection import protect

__all__ = ["Asked", "files_of", "headroom_on", "name_of"]


@dataclass(frozen=True)
class Asked:
    """What one order on a data feed could be at a close.

    Attributes
    ----------
    name, side : str, int
    time : str
    price, distance : float
        The last close, and the distance to the stop behind it.
    step, multiplier : float
        The smallest difference of sizes, and what a point of one unit is worth.
    room : Headroom
    """

    name: str
    side: int
    time: str
    price: float
    distance: float
    step: float
    multiplier: float
    room: Headroom


class _Asks(bt.Strategy):
    """Ask about the data feed at each of the closes that are `wanted`."""

    params: Any = {"sides": (1, -1), "wanted": (), "stop_price": None}

    def __init__(self) -> None:
        self.found: list[list[Asked]] = []
        self._wanted = set(self.p.wanted)

    def next(self) -> None:
        """Ask at the closes that are wanted."""
        if len(self) in self._wanted:
            self.found.append(list(self._ask()))

    def _ask(self) -> Iterator[Asked]:
        gate, data, stop_price = self.broker, self.data, self.p.stop_price
        one, multiplier = gate.find(data), gate.multiplier(data)
        time, step = str(bt.num2date(one.time)), float(one.facts.get("step") or 1.0)
        for side in self.p.sides:
            distance = one.stop_distance()
            if stop_price is not None:
                distance = side * (one.price - stop_price)
            room = gate.headroom(data, side, stop_price)
            yield Asked(one.name, side, time, one.price, distance, step, multiplier, room)


def headroom_on(
    command: str,
    policy: Policy,
    file: Path,
    equity: float,
    *,
    commission: float = 0.0,
    sides: Sequence[int] = (1, -1),
    stop_price: float | None = None,
    closes: int = 1,
) -> list[list[Asked]]:
    """Return what would pass at the last of so many closes, spread over all of them.

    Parameters
    ----------
    command : str
        The caller, for messages.
    policy : Policy
        The members of its groups without prices count as not held.
    file : Path
        Prices of one data feed, named like the file.
    equity : float
        Cash of an account that holds nothing.
    commission : float
        Share of the notional, a side.
    sides : list of int
    stop_price : float, optional
        The stop behind each order; None: the ATR distance.
    closes : int
        How many closes to ask at; 1: the last alone.
    """
    check_positive(command, "--equity", equity)
    check_fraction(command, "--commission", commission, zero=True, one=False)
    cerebro, name, frame = bt.Cerebro(stdstats=False), name_of(file), read_prices(file)
    cerebro.adddata(FrameData(dataname=frame), name=name)
    bars = len(frame)
    wanted = tuple(range(bars, 0, -max(1, bars // closes)))[:closes]
    cerebro.addstrategy(_Asks, sides=tuple(sides), wanted=wanted, stop_price=stop_price)
    cerebro.broker.setcash(equity)
    cerebro.broker.setcommission(commission)
    # Nothing is held: there is nothing to size, to stop or to close.
    alone = replace(policy, sizer=False, trailing_stop=False, **_alone(policy, name))
    protect(cerebro, alone)
    with quiet():
        (strategy,) = cerebro.run()
    found: list[list[Asked]] = strategy.found
    return found


def files_of(command: str, given: Sequence[Path]) -> list[Path]:
    """Return the files of prices if there are any, and no two of them have one name."""
    names = [name_of(path) for path in given]
    if not names:
        raise ParameterError(command, "--prices", "given", "nothing", "Prices: --prices FILE ...")
    if len(set(names)) < len(names):
        raise ParameterError(command, "--prices", "files with different names", names)
    return list(given)


def name_of(file: Path) -> str:
    """Return the name of the data feed of a file."""
    return file.name.split(".")[0]


def _alone(policy: Policy, name: str) -> dict[str, Any]:
    """Return the facts of this instrument, the groups that have it, and their limit."""
    facts = {one: of for one, of in (policy.instruments or {}).items() if one == name}
    groups = {group: [name] for group, of in (policy.groups or {}).items() if name in of}
    limit = policy.group_limit if groups else None
    return {"instruments": facts, "groups": groups or None, "group_limit": limit}

"""StoreSettings: the settings that a store needs, as a TOML file that `protect` reads."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import tomli_w

from bt_risk.errors import ParameterError, check_choice, check_positive, raised_as
from bt_risk.live.capabilities import check_capabilities
from bt_risk.parameters import read_toml
from bt_risk.portfolio.instrument_facts import check_instruments

__all__ = ["StoreSettings"]

# Where the value of the account is from: "callable" says that neither the broker's value nor its
# cash can be used, and that the user has to pass `equity=`.
_SOURCES = ("broker", "positions", "callable")


@dataclass(frozen=True)
class StoreSettings:
    """The settings of `protect` that belong to a store; `bt-risk doctor` writes them.

    Attributes
    ----------
    equity : {"broker", "positions", "callable"}
        The value that the broker reports; its cash and the positions at the last close; or a
        callable that has to be passed to `protect`, as the broker has neither.
    stale_after : float or None
        Seconds without a bar after which a data feed gets no new risk.
    capabilities : dict
        What the broker can do, by name.
    instruments : dict
        Facts such as ``tick`` and ``step`` by name of the data feed.

    Examples
    --------
    >>> print(StoreSettings(instruments={"BTC": {"tick": 0.01}}).to_toml(), end="")
    equity = "broker"
    <BLANKLINE>
    [instruments.BTC]
    tick = 0.01
    """

    equity: str = "broker"
    stale_after: float | None = None
    capabilities: dict[str, bool] = field(default_factory=dict)
    instruments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("StoreSettings", "equity", self.equity, _SOURCES)
        if self.stale_after is not None:
            check_positive("StoreSettings", "stale_after", self.stale_after)
        with raised_as("StoreSettings"):
            check_capabilities(self.capabilities)
        check_instruments("StoreSettings", self.instruments)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Return the settings of a TOML file.

        Raises ParameterError with the file, the key, the constraint and the value.
        """
        path = Path(path)
        remedy = "`bt-risk doctor` writes one."
        missing = ParameterError("protect", "store", "an existing file", str(path), remedy)
        known = [one.name for one in fields(cls)]
        values = read_toml(path, known, missing, "Other settings are for protect().")
        with raised_as(str(path)):
            return cls(**values)

    def to_toml(self, comments: tuple[str, ...] = ()) -> str:
        """Return the settings as TOML, below some lines of comment."""
        values: dict[str, Any] = {"equity": self.equity}
        if self.stale_after is not None:
            values["stale_after"] = self.stale_after
        tables = {"capabilities": self.capabilities, "instruments": self.instruments}
        values |= {name: table for name, table in tables.items() if table}
        return "".join(f"# {line}\n" for line in comments) + tomli_w.dumps(values)

    def live(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the settings for `Live`; those in `given`, which the user has passed, go before.

        Raises ParameterError where the store needs a callable for equity and none is given.
        """
        own: dict[str, Any] = {} if self.stale_after is None else {"stale_after": self.stale_after}
        if self.equity == "positions":
            own["equity"] = "positions"
        if self.equity == "callable" and given.get("equity") is None:
            constraint = "a callable that returns the equity of the account"
            remedy = "The file of this store says that its broker has neither value nor cash."
            raise ParameterError("protect", "equity", constraint, given.get("equity"), remedy)
        declared = given.get("capabilities")
        if isinstance(declared, dict | None):
            own["capabilities"] = self.capabilities | (declared or {})
            given = {name: value for name, value in given.items() if name != "capabilities"}
        return own | given

    def facts(self, given: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
        """Return the facts of the instruments; those in `given`, a policy's, go before."""
        names = [*self.instruments, *(name for name in given or {} if name not in self.instruments)]
        return {n: self.instruments.get(n, {}) | (given or {}).get(n, {}) for n in names}

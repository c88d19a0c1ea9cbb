"""Everything that the gate does not define itself is the broker inside, to read and to write."""

__all__ = ["BrokerProxy"]


class BrokerProxy:
    """What makes a `RiskBroker` look like the broker that it wraps.

    A subclass names in `_own` what stands on itself.
    """

    _own = frozenset()

    def get_cash(self):
        """Return the cash, whichever of the two names the broker inside has."""
        return self.getcash()

    def get_value(self, *args, **kwargs):
        """Return the account value, whichever of the two names the broker inside has."""
        return self.getvalue(*args, **kwargs)

    @property
    def fundvalue(self):
        """Value of one share of the account, which deposits do not move."""
        return self.inner.fundvalue if self.simulated else self._fund()

    @property
    def fundshares(self):
        """Shares of the account."""
        return self.inner.fundshares

    @property
    def startingcash(self):
        """Cash at the start, 0.0 where the broker inside does not keep it."""
        return getattr(self.inner, "startingcash", 0.0)

    @property
    def positions(self):
        """Positions by data."""
        if hasattr(self.inner, "positions"):
            return self.inner.positions
        return {i.data: self.inner.getposition(i.data) for i in self.book.instruments}

    def __getattr__(self, name):
        inner = self.__dict__.get("inner")
        if inner is None or name.startswith("__") or name in self._own:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return getattr(inner, name)

    def __setattr__(self, name, value):
        if name in self._own:
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner, name, value)
        if name == "cerebro":
            self.inner.cerebro = value

"""Rule 3 and related limits: exposure in one direction, in all, in one instrument, in a group.

All are fractions of equity in one of two units: ``"risk"`` is the loss at the stops, ``"notional"``
the value of the positions. Working orders count as if they had filled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from bt_risk.errors import ParameterError
from bt_risk.limits.base import Decision, Limit, Request
from bt_risk.limits.settings import EXPOSURE_LIMIT, REJECT, LimitSettings
from bt_risk.parameters import ceiling

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book
    from bt_risk.portfolio.exposure import Unit

__all__ = ["ExposureLimit", "GrossLimit", "GroupLimit", "NetLimit", "PositionLimit"]


Groups = Mapping[str, Collection[str]]


class _Exposure(Limit):
    """Limit an exposure; `parameter` is the name of the subclass's own parameter."""

    parameter = ""

    def __init__(
        self,
        limit: float | None,
        exposure_unit: str,
        on_exposure: str,
        allow_extreme: bool,
        groups: Groups | None = None,
    ) -> None:
        given = {
            self.parameter: limit,
            "exposure_unit": exposure_unit,
            "on_exposure": on_exposure,
            "groups": groups,
            "allow_extreme": allow_extreme,
        }
        settings = LimitSettings.checked(self.name, given)
        self.limit = ceiling(limit)
        self.unit: Unit = "risk" if settings.exposure_unit == "risk" else "notional"
        self.on = settings.on_exposure

    @property
    def by_size(self) -> bool:
        """Return whether it refuses whole what it could cut."""
        return self.on == REJECT

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        return self._judge(request, book, self._used(request, book), self.parameter)

    def _used(self, request: Request, book: Book) -> float:
        """Return the exposure without the request, in currency."""
        raise TypeError(f"{self.name} has no exposure")

    def _judge(self, request: Request, book: Book, used: float, parameter: str) -> Decision:
        return self.cap(request, book.equity, used, self.unit, self.limit, parameter, self.on)

    def _unknown(self, request: Request) -> str:
        known = not math.isnan(request.unit_risk) and not math.isnan(request.unit_notional)
        return "a position on that side has no known risk" if known else super()._unknown(request)


class ExposureLimit(_Exposure):
    """Rule 3: all positions in one direction together are at most `exposure_limit` of equity.

    Parameters
    ----------
    exposure_limit : float, default 0.05
        Fraction of equity; None or infinity switches it off.
    exposure_unit : {"risk", "notional"}
        Whether the loss at the stops or the value of the positions is added up.
    on_exposure : {"trim", "reject"}
        Cut the order to what fits, or refuse it whole.
    allow_extreme : bool, default False
        Take a limit of risk of 0.5 and more, which is percent by mistake otherwise. A limit in
        notional may be above 1 without it.
    """

    parameter = "exposure_limit"

    def __init__(
        self,
        exposure_limit: float | None = EXPOSURE_LIMIT,
        exposure_unit: str = LimitSettings.exposure_unit,
        on_exposure: str = LimitSettings.on_exposure,
        *,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        super().__init__(exposure_limit, exposure_unit, on_exposure, allow_extreme)

    def _used(self, request: Request, book: Book) -> float:
        return book.exposure.of_side(request.side, self.unit)


class GrossLimit(_Exposure):
    """Long and short positions together: the sum of absolute values is at most `gross_limit`.

    Parameters
    ----------
    gross_limit : float, optional
        Fraction of equity; None or infinity switches it off.
    exposure_unit, on_exposure, allow_extreme
        As of `ExposureLimit`.
    """

    parameter = "gross_limit"

    def __init__(
        self,
        gross_limit: float | None = LimitSettings.gross_limit,
        exposure_unit: str = LimitSettings.exposure_unit,
        on_exposure: str = LimitSettings.on_exposure,
        *,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        super().__init__(gross_limit, exposure_unit, on_exposure, allow_extreme)

    def _used(self, request: Request, book: Book) -> float:
        own = book.exposure.of(request.instrument, request.side, self.unit)
        return own + book.exposure.gross(request.instrument, self.unit)


class NetLimit(_Exposure):
    """Long less short positions: the absolute value of the sum is at most `net_limit`.

    An order that brings the sum closer to zero passes.

    Parameters
    ----------
    net_limit : float, optional
        Fraction of equity; None or infinity switches it off.
    exposure_unit, on_exposure, allow_extreme
        As of `ExposureLimit`.
    """

    parameter = "net_limit"

    def __init__(
        self,
        net_limit: float | None = LimitSettings.net_limit,
        exposure_unit: str = LimitSettings.exposure_unit,
        on_exposure: str = LimitSettings.on_exposure,
        *,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        super().__init__(net_limit, exposure_unit, on_exposure, allow_extreme)

    def _used(self, request: Request, book: Book) -> float:
        return book.exposure.net(request.instrument, request.owner, request.side, self.unit)


class PositionLimit(_Exposure):
    """One instrument, with its resampled and replayed copies, is at most `position_limit`.

    Parameters
    ----------
    position_limit : float, optional
        Fraction of equity; None or infinity switches it off.
    exposure_unit, on_exposure, allow_extreme
        As of `ExposureLimit`.
    """

    parameter = "position_limit"

    def __init__(
        self,
        position_limit: float | None = LimitSettings.position_limit,
        exposure_unit: str = LimitSettings.exposure_unit,
        on_exposure: str = LimitSettings.on_exposure,
        *,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        super().__init__(position_limit, exposure_unit, on_exposure, allow_extreme)

    def _used(self, request: Request, book: Book) -> float:
        return book.exposure.of(request.instrument, request.side, self.unit)


class GroupLimit(_Exposure):
    """The positions of a group, long and short together, are at most `group_limit` of equity.

    Parameters
    ----------
    groups : dict of str to list of str
        Names of data feeds by name of the group: ``{"majors": ["BTC", "ETH"]}``. A name may be in
        several groups; a name without a data feed raises when the run begins.
    group_limit : float, optional
        Fraction of equity for each group; None or infinity switches it off.
    exposure_unit, on_exposure, allow_extreme
        As of `ExposureLimit`.
    """

    parameter = "group_limit"

    def __init__(
        self,
        groups: Groups | None = LimitSettings.groups,
        group_limit: float | None = LimitSettings.group_limit,
        exposure_unit: str = LimitSettings.exposure_unit,
        on_exposure: str = LimitSettings.on_exposure,
        *,
        allow_extreme: bool = LimitSettings.allow_extreme,
    ) -> None:
        super().__init__(group_limit, exposure_unit, on_exposure, allow_extreme, groups)
        self.groups = {name: frozenset(members) for name, members in (groups or {}).items()}

    def prepare(self, book: Book) -> None:
        """Raise a ParameterError for a name without a data feed."""
        names = [instrument.name for instrument in book.instruments]
        for group, members in self.groups.items():
            for name in members:
                if name not in names:
                    listed = f"names of data feeds of this Cerebro ({', '.join(names)})"
                    raise ParameterError(self.name, f"groups[{group!r}]", listed, name)

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`: that of the group with the least room."""
        answer = Decision(request.size)
        copies = {copy.name for copy in request.instrument.copies}
        for group, members in self.groups.items():
            if copies.isdisjoint(members):
                continue
            used = book.exposure.of(request.instrument, request.side, self.unit)
            used += book.exposure.gross(request.instrument, self.unit, members)
            decision = self._judge(request, book, used, f"group_limit of {group!r}")
            if decision.size < answer.size:
                answer = decision
        return answer

"""Taper: orders are scaled down while the account is in a drawdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.limits.base import Decision, Limit, Request

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = ["Taper"]


class Taper(Limit):
    """Scale orders that no risk budget limits by the factor of a tapering breaker or floor."""

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if request.budgeted or book.risk_scale >= 1.0:
            return Decision(request.size)
        scales, scale = book.risk_scales, book.risk_scale
        rule = str(getattr(min(scales, key=scales.__getitem__), "name", ""))
        reason = f"{rule}: tapered to {scale:.4f} of the size"
        return Decision(request.size * scale, reason, rule, scale, 1.0)

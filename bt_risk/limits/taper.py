"""Taper: orders are scaled down while the account is in a drawdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bt_risk.limits.base import Decision, Limit, Request

if TYPE_CHECKING:
    from bt_risk.portfolio.book import Book

__all__ = ["Taper"]


class Taper(Limit):
    """Scale orders that no risk budget limits by the factor of a tapering breaker."""

    def review(self, request: Request, book: Book) -> Decision:
        """Return the `Decision` for `request`."""
        if request.budgeted or book.risk_scale >= 1.0:
            return Decision(request.size)
        reason = f"DrawdownBreaker: tapered to {book.risk_scale:.4f} of the size"
        size = request.size * book.risk_scale
        return Decision(size, reason, "DrawdownBreaker", book.risk_scale, 1.0)

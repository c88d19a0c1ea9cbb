"""What is said about a refusal: a reason, one line, one notification, brackets together (6)."""

import backtrader as bt

from promises.safety.book import EPS, Book

Order = bt.Order


class Refusals(Book):
    """Compare what is rejected or cut with what the journal and the order say of it."""

    def _rejected(self):
        return {ref for ref, a in self.asked.items() if a.order.status == Order.Rejected}

    def _check_lines(self, asked, order):
        lines, rejected = asked.before
        actions = [line[3] for line in self.gate.journal.lines[lines:]]
        new = self._rejected() - rejected
        ours = new - self.native_rejects
        if actions.count("reject") != len(ours):
            text = f"{actions.count('reject')} lines for {len(ours)} rejected orders: {actions}"
            self.breach("6 not one journal line for each rejected order", text)
        for ref in ours:
            if not self.asked[ref].order.info.get("bt_risk"):
                self.breach("6 rejected without a reason", f"order {self.name(ref)}")
        cut = asked.parent is None and 0 < asked.accepted < asked.size - EPS
        if cut and (actions.count("trim") != 1 or not order.info.get("bt_risk")):
            self.breach("6 trimmed without a line and a reason", f"{actions}")

    def check_families(self):
        """See that brackets stand or fall together, and that nothing waits for ever."""
        for asked in self.asked.values():
            late = asked.parent is not None and not asked.untransmitted
            if asked.parent is None or late or asked.moment != self.moment:
                continue
            parent, child = self.asked[asked.parent.ref], asked.order
            if parent.order.status == Order.Created or child.status == Order.Created:
                self.breach("6 part of a bracket was never sent", child.getstatusname())
            refused = parent.order.status == Order.Rejected
            if refused and child.status != Order.Rejected:
                self.breach("6 half a bracket", f"parent Rejected, {child.getstatusname()}")
            # Children of a parent that only closes would open: they are judged like entries.
            if not refused and child.status == Order.Rejected and parent.opening > EPS:
                self.breach("6 half a bracket", f"child Rejected: {child.info.get('bt_risk')}")

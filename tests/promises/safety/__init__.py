"""A random strategy, and a model of the book that does not trust the gate.

The model is written from what Backtrader itself says: the notifications of the BackBroker inside
(`Tape` hears them before the gate does), its positions, and the prices of the feeds. It shares no
line with bt_risk. After every order, fill and bar it compares what happened with what bt_risk
promises, and notes a `Breach` where they differ:

0. Nothing crashes, no order grows, and the model itself keeps count of the position.
1. No accepted entry exceeds a limit, held positions and working orders counted; what relied on an
   exit is within them when it fills.
2. An order that reduces a position is never refused, trimmed, or lost: not to the cash check, and
   not withdrawn while there is something to close.
3. No position without a user's order behind it; one stop for each, of the position's size. An order
   opens no more than was reviewed of it, ``close()`` nothing, and no exit outlives its position.
4. Stops only tighten, rest where the rule puts them, and fill on a later bar than they were set
   from; the same bet is not taken twice.
5. A feed that is cut off changes nothing that was decided before.
6. What is refused has a reason, one line in the journal and one notification; brackets stand and
   fall together.
7. After a trip nothing opens, everything is closed, and only then the run stops.
8. Nothing opens while a price, an ATR or a correlation that a limit needs is unknown, and nothing
   fills at a price that is none; no mark is moved by one bar that cannot be true.
9. Nothing opens while an operator or a guard holds entries off, whatever was sent before, and what
   is held leaves where a guard closes it. On margin it is liquidated on the bar and at the price at
   which its equity has fallen to its maintenance margin, and never else. Nothing opens against a
   signal, without one, or on one that is too old.

A `World` holds all that a run depends on, with its actions as plain tuples: whatever breaks prints
as one expression that reproduces it, shrunk by `shrink`.

What a run is made of: `world`, `prices`, `generator`, `trader`. What is known of it: `book`, the
base of `reach` (what an order can close and open), `orders`, `limits`, `refusals`, `fills`,
`stops`, `targets`, `breaker`, `guards`, `days`, `margin` and `signals`, each with the promises of
one concept, and `inside` (the worst of a bar); `model` is all of them. What is done with it:
`running` and `shrinking`.
"""

from dataclasses import replace
from math import inf

from promises.safety.generator import make_world
from promises.safety.running import check, foresight, run
from promises.safety.shrinking import report, shrink
from promises.safety.world import Action, Feed, World

# All that the expression of a report is written in, besides what a developer calls.
__all__ = [
    "Action",
    "Feed",
    "World",
    "check",
    "foresight",
    "inf",
    "make_world",
    "replace",
    "report",
    "run",
    "shrink",
]

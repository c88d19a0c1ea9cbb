"""Making worlds: everything about a run drawn from its seed."""

import math
import random
from dataclasses import replace

import backtrader as bt

import bt_risk
from promises.safety.prices import START
from promises.safety.world import CASH, COMPONENTS, Action, Feed, World

NOON = bt.date2num(START) + 0.5  # signals come between two bars, which are days


def make_world(seed):
    """Return the world of a seed."""
    rng = random.Random(seed)
    feeds = tuple(_make_feed(rng, index) for index in range(rng.choice([1, 1, 2, 2, 3])))
    parts = ()
    if rng.random() < 0.35:
        parts = tuple(sorted(rng.sample(COMPONENTS, rng.randint(1, 4))))
        if parts == ("sizer",):
            parts = ("cap", "sizer")
    world = World(
        seed,
        rng.randint(40, 80),
        feeds,
        rng.choice([1, 1, 1, 2]),
        parts,
        _make_limits(rng),
        rng.choice([CASH, CASH, CASH, 8_000.0]),
        rng.choice([0.0, 0.001]),
        rng.choice([0.0, 0.0, 0.001]),
        rng.choice([0.0, 0.0, 0.0, 3.0, 10.0]),
        engine=_make_engine(rng),
    )
    if random.Random(-1 - seed).random() < 0.3 and all(f[:3] == (0.0, 1.0, 0.0) for f in feeds):
        # Backtrader itself fails with exactbars=1 where clocks differ.
        world = replace(world, engine=(("exactbars", 1),))
    world = _cheat(replace(world, actions=tuple(_make_actions(rng, world))))
    world = _single(_floored(_costs(_number(_beyond(_strange(_portfolio(_hold_off(world))))))))
    return _signalled(_leveraged(_inside(_daily(world))))


def _make_feed(rng, index):
    start = rng.choice([0.0, 0.0, 0.15, 0.3]) if index else 0.0
    end = rng.choice([1.0, 1.0, 0.7])
    future = rng.random() < 0.12
    return Feed(
        start,
        end if index else 1.0,
        rng.choice([0.0, 0.0, 0.15]),
        0.0 if future else rng.choice([0.0, 0.0, 0.0, 0.05]),
        rng.choice([0.005, 0.01, 0.02, 0.03]),
        rng.choice([0.0, 0.0, 0.5, 0.97]),
        rng.choice([500.0, 2000.0]) if future else 0.0,
        10.0 if future else 1.0,
    )


def _make_limits(rng):
    limits = {
        "risk_limit": rng.choice([0.01, 0.01, 0.03]),
        "exposure_limit": rng.choice([0.05, 0.02, None]),
        "correlation_limit": rng.choice([0.7, 0.7, None]),
        "drawdown_limit": rng.choice([0.10, 0.03, 0.01]),
        "action": rng.choice(["stop", "pause"]),
        "anchor": rng.choice(["close", "close", "extreme"]),
    }
    if rng.random() < 0.2:
        limits |= {"exposure_unit": "notional", "exposure_limit": 0.6}
    if limits["action"] == "pause":
        limits["cooldown_bars"] = rng.choice([None, 3, 8])
        limits["flatten"] = rng.random() < 0.7
    return tuple(sorted(limits.items()))


def _make_engine(rng):
    options = {"runonce": rng.random() < 0.5}
    if rng.random() < 0.25:
        options["quicknotify"] = True
    if rng.random() < 0.2:
        options["preload"] = False
    return tuple(sorted(options.items()))


def _make_actions(rng, world):
    busy = rng.choice([0.25, 0.5, 0.9])
    scale = world.cash / CASH
    for bar in range(1, world.bars + 1):
        for who in range(world.traders):
            while rng.random() < busy:
                data = rng.randrange(len(world.feeds))
                verb = rng.choices(list(MAKERS), [weight for weight, _ in MAKERS.values()])[0]
                args = MAKERS[verb][1](rng, scale)
                yield Action(bar, who, verb, data, args)
                if rng.random() < 0.5:
                    break


def _size(rng, scale):
    kind = rng.random()
    if kind < 0.15:
        return None
    size = scale * math.exp(rng.uniform(math.log(5), math.log(3000)))
    return max(1, round(size)) if kind < 0.75 else round(size, 3)


def _off(rng, wide=0.06):
    return round(rng.uniform(0.001, wide), 4)


def _side(rng):
    return rng.choice([1, 1, -1])


def _exits(rng):
    return _off(rng), _off(rng), rng.random() < 0.4, rng.choice([1.0, 1.0, 0.5])


def _resting(rng, scale):
    kind = rng.choice(["Limit", "Limit", "Stop", "StopLimit", "StopTrail"])
    offset = round(rng.uniform(-0.05, 0.05), 4)
    return _side(rng), _size(rng, scale), kind, offset, rng.choice([None, None, 1, 4])


def _target(rng, scale):
    kind = rng.choice(["size", "value", "percent"])
    amount = {"size": 1000 * scale, "value": 100_000 * scale, "percent": 1.0}[kind]
    target = rng.choice([0, 0.2, 0.5, 1.2, -0.5]) * amount
    return kind, round(target) if kind == "size" else target


def _cheat(world):
    """Let some worlds trade at the open or at the close of a bar that others only look at."""
    rng = random.Random(f"cheat {world.seed}")
    actions = [_at_the_close(rng, action) for action in world.actions]
    cheat = rng.choice(["", "", "close", "open"])
    if cheat == "open":
        options = {"cheat_on_open": True} | ({"broker_coo": False} if rng.random() < 0.2 else {})
        world = replace(world, engine=tuple(sorted((dict(world.engine) | options).items())))
        actions = [action._replace(at_open=rng.random() < 0.6) for action in actions]
    return replace(world, coc=cheat == "close", actions=tuple(actions))


def _hold_off(world):
    """Give some worlds guards, and some an operator who reaches for the switch."""
    rng = random.Random(f"guards {world.seed}")
    if rng.random() < 0.3 and (not world.parts or "cap" in world.parts):
        guards = tuple(rng.sample([make(rng) for make in GUARDS], rng.randint(1, 3)))
        world = replace(world, limits=tuple(sorted([*world.limits, ("guards", guards)])))
    if rng.random() < 0.2:
        actions = list(world.actions)
        for _ in range(rng.randint(1, 6)):
            how = rng.choice(["halt", "reduce_only", "reduce_only", "resume", "resume"])
            at = rng.choice(actions) if actions else Action(20, 0, "", 0)
            switch = at._replace(verb="switch", args=(how,))
            actions.insert(actions.index(at) + rng.randint(0, 1) if actions else 0, switch)
        world = replace(world, actions=tuple(actions))
    return world


def _portfolio(world):
    """Give some worlds limits on all that is held, and other ways to measure correlation."""
    rng = random.Random(f"portfolio {world.seed}")
    if rng.random() < 0.5:
        return world
    limits = dict(world.limits)
    share = {"risk": 0.02, "notional": 0.5}[limits.get("exposure_unit", "risk")]
    for name, part in {"gross": 1.0, "net": 1.0, "position": 0.25, "group": 1.0}.items():
        if rng.random() < 0.3:
            limits[f"{name}_limit"] = part * share * rng.choice([0.5, 1.0, 2.0])
    if "group_limit" in limits:
        limits["groups"] = {"some": ["D0", f"D{len(world.feeds) - 1}"]}
    if rng.random() < 0.4:
        limits["volatility_limit"] = rng.choice([0.05, 0.15, 0.3])
    limits["correlation_estimator"] = rng.choice(["rolling", "rolling", "ewm"])
    if random.Random(f"gap {world.seed}").random() < 0.3:
        limits |= {"gap_limit": 0.01, "gap_floor": 0.02}
    if limits["correlation_estimator"] == "ewm":
        limits["halflife"] = rng.choice([3, 10])
    limits["multi_bar"] = rng.choice([1, 1, 3])
    limits["downside"] = rng.random() < 0.3
    limits["hysteresis"] = rng.choice([0.0, 0.2])
    return replace(world, limits=tuple(sorted(limits.items())))


def _costs(world):
    """Let some worlds count what a stop-out costs: what the model adds up is the least then.

    In some the stops are active from the fill of the entry on.
    """
    rng = random.Random(f"costs {world.seed}")
    if random.Random(f"entry bar {world.seed}").random() < 0.2:
        world = replace(world, limits=tuple(sorted([*world.limits, ("entry_stop", "attached")])))
    if rng.random() > 0.2:
        return world
    slippage = rng.choice([0.0, 0.0005, 0.01])
    limits = dict(world.limits) | {"costs_in_risk": True, "slippage": slippage}
    return replace(world, limits=tuple(sorted(limits.items())))


def _single(world):
    """Give some worlds guards of a single order, and exits by rule."""
    rng = random.Random(f"single {world.seed}")
    if rng.random() > 0.1 or (world.parts and "cap" not in world.parts):
        return world
    limits = dict(world.limits)
    added = rng.sample([make(rng) for make in SINGLE], rng.randint(1, 3))
    if random.Random(f"collar {world.seed}").random() < 0.5:
        collar = bt_risk.PriceCollar
        added = [replace(one, lookback=10) if type(one) is collar else one for one in added]
    limits["guards"] = (*limits.get("guards", ()), *added)
    return replace(world, limits=tuple(sorted(limits.items())))


def _floored(world):
    """Give some worlds a floor under the account in place of the breaker."""
    rng = random.Random(f"floor {world.seed}")
    if rng.random() > 0.15 or world.parts:
        return world
    action = rng.choice(["stop", "pause"])
    flatten = action == "stop" or rng.random() < 0.7
    mode = rng.choice(["static", "trailing_intraday"])
    floor = bt_risk.AccountFloor(
        rng.choice([0.10, 0.03, 0.01]),
        mode,
        lock=None if mode == "static" else rng.choice([None, 0.0]),
        action=action,
        flatten=flatten,
        initial_balance=world.cash,
    )
    limits = dict(world.limits) | {"drawdown_limit": None, "action": action, "flatten": flatten}
    limits |= {"cooldown_bars": None, "guards": (*limits.get("guards", ()), floor)}
    return replace(world, limits=tuple(sorted(limits.items())))


def _daily(world):
    """Let what one bar loses end the day in some worlds: most days that hold much, then."""
    rng = random.Random(f"daily {world.seed}")
    known = not any(feed.spread or feed.scheme == "converts" for feed in world.feeds)
    if rng.random() > 0.12 or not known or (world.parts and "cap" not in world.parts):
        return world
    limit = bt_risk.DailyLossLimit(
        rng.choice([0.0003, 0.001]),
        flatten=rng.random() < 0.5,
        trigger=rng.choice(["close", "intrabar"]),
    )
    feeds = tuple(feed._replace(nans=0.0, bad=0.0) for feed in world.feeds)
    limits = dict(world.limits)
    limits["guards"] = (limit, *limits.get("guards", ()))
    return replace(world, feeds=feeds, limits=tuple(sorted(limits.items())))


def _inside(world):
    """Let the breaker, or the floor, judge bars at their worst in some worlds."""
    rng, limits = random.Random(f"inside {world.seed}"), dict(world.limits)
    floored = any(isinstance(one, bt_risk.AccountFloor) for one in limits.get("guards", ()))
    converts = any(feed.scheme == "converts" for feed in world.feeds)
    if rng.random() > (0.6 if floored else 0.15) or converts:
        return world
    if limits.get("drawdown_limit", 0.1) is not None:
        limits["drawdown_trigger"] = "intrabar"
    limits["guards"] = tuple(
        replace(one, trigger="intrabar")
        if isinstance(one, bt_risk.AccountFloor) and one.mode == "static"
        else one
        for one in limits.get("guards", ())
    )
    return replace(world, limits=tuple(sorted(limits.items())))


def _leveraged(world):
    """Trade on margin in some worlds, beyond what other rules would let anybody hold."""
    rng = random.Random(f"margin {world.seed}")
    known = not any(feed.spread or feed.scheme == "converts" for feed in world.feeds)
    single = any(isinstance(one, bt_risk.TakeProfit) for one in world.policy["guards"])
    if rng.random() > 0.16 or not known or single or (world.parts and "cap" not in world.parts):
        return world
    leverage = rng.choice([5.0, 10.0, 20.0, 50.0])
    tiers = rng.choice(
        [None, ((0.0, 0.004),), ((0.0, 0.004), (100_000.0, 0.01)), ((0.0, 0.005), (2e5, 0.01, 10))]
    )
    account = bt_risk.MarginAccount(
        leverage,
        tiers,
        rng.choice(["isolated", "cross"]),
        call=rng.choice([0.3, 0.5, 0.8]),
        liquidation_fee=rng.choice([0.0, 0.0, 0.005]),
        buffer=rng.choice([None, None, 0.25]),
    )
    feeds = tuple(feed._replace(nans=0.0, bad=0.0) for feed in world.feeds)
    loose = dict.fromkeys(("notional_limit", "exposure_limit", "correlation_limit", "risk_limit"))
    limits = dict(world.limits) | (loose if rng.random() < 0.7 else {"notional_limit": leverage})
    limits["guards"] = (*limits.get("guards", ()), account)
    return replace(world, feeds=feeds, limits=tuple(sorted(limits.items())))


def _signalled(world):
    """Let signals decide in some worlds what opens in the first feed, and how much it may risk."""
    rng = random.Random(f"signals {world.seed}")
    if rng.random() > 0.1 or (world.parts and "cap" not in world.parts):
        return world
    rows = []
    for day in range(world.bars):
        if rng.random() < 0.2:
            rows.append((NOON + day, rng.choice([-100.0, -60.0, -10.0, 10.0, 60.0, 60.0, 100.0])))
    kinds = [
        bt_risk.SignalGate(names=["D0"]),
        bt_risk.ConvictionScale(rng.choice([0.002, 0.01]), names=["D0"]),
    ]
    guards = (*world.policy["guards"], *rng.choice([kinds, kinds[:1], kinds[1:]]))
    limits = dict(world.limits) | {"guards": guards}
    signals = (rng.choice([2, 5]), tuple(rows)) if rows else ()
    return replace(world, limits=tuple(sorted(limits.items())), signals=signals)


def _at_the_close(rng, action):
    """Turn one order in seven into one that fills at the close of a bar."""
    if rng.random() > 0.15:
        return action
    verb, args = action.verb, action.args
    if verb in ("market", "close"):
        args = (*args, "Close")
    elif verb == "bracket":
        args = (*args[:2], "Close", *args[3:])
    elif verb == "scalp":
        verb, args = "day", args[:2]
    elif verb == "exits":
        verb, args = "timed", args[::2]
    return action._replace(verb=verb, args=args)


def _strange(world):
    """Give some worlds feeds with errors, prices below zero, or a point that is not one."""
    rng = random.Random(f"strange {world.seed}")
    spoilt = rng.random() < 0.2
    feeds = []
    for feed in world.feeds:
        kind = rng.choice([""] * 8 + ["converts", "spread"])
        if feed.margin and rng.random() < 0.5:
            feed = feed._replace(scheme="points")
        elif kind == "converts" and not feed.margin:
            feed = feed._replace(scheme="converts", margin=0.05, nans=0.0)
        elif kind == "spread":
            feed = feed._replace(spread=True, margin=500.0, mult=10.0, nans=0.0)
        if spoilt and feed.scheme != "converts":  # what converts fails at a price of zero itself
            feed = feed._replace(bad=rng.choice([0.0, 0.03, 0.08]))
        feeds.append(feed)
    own_parts = world.traders > 1 and rng.random() < 0.6
    return replace(world, feeds=tuple(feeds), own_parts=own_parts)


def _beyond(world):
    """Add what most strategies do once in a while: leave, rotate, mistype a price, be late."""
    rng = random.Random(f"beyond {world.seed}")
    scale, actions = world.cash / CASH, list(world.actions)
    for _ in range(rng.choice([0, 3, 8, 20])):
        verb = rng.choices(list(SELDOM), [weight for weight, _ in SELDOM.values()])[0]
        bar, who = rng.randint(1, world.bars), rng.randrange(world.traders)
        data = rng.randrange(len(world.feeds))
        args = SELDOM[verb][1](rng, scale, len(world.feeds))
        verb = "resting" if verb == "absurd" else verb
        action = Action(bar, who, verb, data, args)
        if dict(world.engine).get("cheat_on_open"):
            action = action._replace(at_open=rng.random() < 0.6)
        at = next((i for i, a in enumerate(actions) if a.bar >= bar), len(actions))
        actions.insert(at + (rng.random() < 0.5), action)
    return replace(world, actions=tuple(sorted(actions, key=lambda action: action.bar)))


def _number(world):
    """Let some strategies tell their trades apart by a tradeid."""
    rng = random.Random(f"number {world.seed}")
    if rng.random() > 0.15:
        return world
    actions = []
    for action in world.actions:
        args, least = action.args, {"market": 4, "close": 2}.get(action.verb)
        if least:
            args += (None, "Market")[len(args) - least :] if len(args) < least else ()
            args += (rng.choice([0, 1, 2]),)
        actions.append(action._replace(args=args))
    return replace(world, actions=tuple(actions))


def _absurd(rng, scale, feeds):
    """A price that no market has: a sell limit at 0.01, a buy limit at ten times the market."""
    kind = rng.choice(["Limit", "Limit", "Stop", "StopLimit"])
    size = _size(rng, scale * rng.choice([1.0, 10.0]))
    return _side(rng), size, kind, rng.choice([9.0, 1.0, -0.9999, -0.9999, -0.5]), None


# How often, and how the arguments are drawn from the dice, the scale and the number of feeds.
SELDOM = {
    "absurd": (3, _absurd),
    "leave": (
        5,
        lambda r, s, n: (
            r.choice(["", "", "again", "cancel", "reverse", "re-enter", "sell first"]),
        ),
    ),
    "rotate": (4, lambda r, s, n: (r.randrange(n), _side(r), _size(r, s), r.random() < 0.8)),
    "late": (2, lambda r, s, n: (_side(r), _size(r, s), _off(r))),
    "scalp": (2, lambda r, s, n: (_side(r), _size(r, s), -_off(r), "Stop")),
    "exits": (2, lambda r, s, n: (_off(r, 0.2), _off(r, 0.2), r.random() < 0.5, 1.0)),
}

GUARDS = (
    lambda r: bt_risk.CooldownGuard(r.choice([1, 3, 8])),
    lambda r: bt_risk.StopoutGuard(r.choice([1, 2]), 15, r.choice([3, 8]), scope=_scope(r)),
    lambda r: bt_risk.LosingStreakGuard(r.choice([1, 2]), r.choice([3, 8]), scope=_scope(r)),
    lambda r: bt_risk.DailyLossLimit(r.choice([0.001, 0.01]), r.choice([0, 5]), scope=_scope(r)),
    lambda r: bt_risk.DailyLossLimit(
        r.choice([0.001, 0.01]),
        scope=_scope(r),
        flatten=r.random() < 0.5,
        trigger=r.choice(["close", "intrabar"]),
        reset=r.choice(["session", "17:00 America/New_York"]),
    ),
    lambda r: bt_risk.DailyProfitTarget(r.choice([0.001, 0.01]), flatten=r.random() < 0.5),
    lambda r: bt_risk.TradingHours(["Mon-Fri"], flat_before=r.choice([None, 30])),
    lambda r: bt_risk.ProfitLock(0.5, 0.001, flatten=r.random() < 0.5, scope=_scope(r)),
    lambda r: bt_risk.OrderRateLimit(r.choice([1, 2, 4]), cooldown_bars=r.choice([0, 3])),
    lambda r: bt_risk.MinimumEdgeGuard(r.choice([0.0, -1.0]), 3, r.choice([3, 8])),
)

# Guards of a single order, and exits by rule.
SINGLE = (
    lambda r: bt_risk.PriceCollar(r.choice([1.0, 5.0]), r.choice([None, 0.05])),
    lambda r: bt_risk.OrderSize(r.choice([5.0, 50.0]), on_size=r.choice(["reject", "trim"])),
    lambda r: bt_risk.DuplicateOrder(r.choice([1, 5])),
    lambda r: bt_risk.RepeatedOrders(r.choice([3, 10])),
    lambda r: bt_risk.Deny(["D0"], side=r.choice([1, -1])),
    lambda r: bt_risk.LongOnly(),
    lambda r: bt_risk.MaxPositions(r.choice([1, 2])),
    lambda r: bt_risk.TimeExit(r.choice([1, 4, 10])),
    lambda r: bt_risk.TakeProfit(r.choice([0.5, 2.0])),
    lambda r: bt_risk.BreakEven(r.choice([0.5, 1.0])),
)


def _scope(rng):
    return rng.choice(["data", "all"])


# How often, and how the arguments are drawn.
MAKERS = {
    "market": (
        20,
        lambda r, s: (_side(r), _size(r, s), _exits(r) if r.random() < 0.25 else None),
    ),
    "resting": (16, _resting),
    "planned": (3, lambda r, s: (_side(r), _size(r, s), _off(r))),
    "close": (9, lambda r, s: (r.choice([1.0, 1.0, 0.5, 0.3]),)),
    "exits": (9, lambda r, s: _exits(r)),
    "ladder": (3, lambda r, s: (_off(r, 0.1), _off(r, 0.1), r.choice([1.0, 0.5]))),
    "fork": (3, lambda r, s: (_size(r, s), _off(r, 0.03))),
    "scalp": (4, lambda r, s: (_side(r), _size(r, s), _off(r))),
    "reverse": (5, lambda r, s: (r.choice([2.0, 1.5]),)),
    "target": (8, _target),
    "bracket": (
        8,
        lambda r, s: (
            _side(r),
            _size(r, s),
            r.choice(["Market", "Limit"]),
            _off(r, 0.02),
            _off(r),
            _off(r),
            r.choice(["both", "both", "stop", "limit"]),
            r.choice([None, 2]),
        ),
    ),
    "family": (
        4,
        lambda r, s: (
            _side(r),
            _size(r, s),
            _off(r),
            _off(r),
            r.choice([1.0, 0.5, 1.5]),
            r.choice([0, 0, 50]),
        ),
    ),
    "cancel": (6, lambda r, s: (r.randrange(20),)),
}

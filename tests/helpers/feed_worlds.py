"""Draw seeded frames and parameters of a PandasData, and read the state that a preload leaves."""

import datetime
import warnings
from array import array
from datetime import timedelta, timezone

import backtrader as bt
import numpy as np
import pandas as pd

NAMES = ["open", "high", "low", "close", "volume", "openinterest"]
ZONES = [
    None,
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    timezone(timedelta(hours=-3)),
]
PYTZ_ZONES = ["US/Eastern", "Europe/Dublin", "UTC", "Asia/Kolkata", "Etc/GMT+5", "CST"]
STARTS = ["1699-12-31 23:59:59.999999", "1969-12-31", "2020-03-28", "2024-02-29 05:07"]
STEPS = ["D", "h", "7min", "s", "1001us", "90D"]


def pick(rng, options, chances=None):
    """Return one of `options` as it is; numpy's choice would convert it."""
    options = list(options)
    return options[rng.choice(len(options), p=chances)]


def times(rng, rows):
    """Return the times of `rows` bars: any unit, step, zone and order."""
    start = pick(
        rng, ["1699-12-31 23:59:59.999999", "1969-12-31", "2020-03-28", "2024-02-29 05:07"]
    )
    index = pd.date_range(start, periods=rows, freq=pick(rng, STEPS)).as_unit("us")
    if rng.random() < 0.3:
        index = index + pd.to_timedelta(rng.integers(0, 86_400_000_000, rows), unit="us")
    zone = pick(rng, ZONES)
    if zone is not None:
        index = index.tz_localize("UTC").tz_convert(zone)
    index = index.as_unit(pick(rng, ["s", "ms", "us", "ns"], [0.1, 0.1, 0.4, 0.4]))
    order = rng.permutation(rows) if rng.random() < 0.15 else np.arange(rows)
    return index[order].rename(pick(rng, ["datetime", "Time"]))


def odd_times(rng, index):
    """Return times that cannot be read at once, or not at all."""
    kind = pick(rng, ["nanoseconds", "missing", "objects", "texts", "numbers"])
    if kind == "nanoseconds":
        return index.as_unit("ns") + pd.Timedelta(7, "ns")
    if kind == "missing":
        return index[:-1].append(pd.DatetimeIndex([pd.NaT], tz=index.tz)) if len(index) else index
    if kind == "objects":
        return index.astype(object)
    return index.astype(str) if kind == "texts" else pd.RangeIndex(len(index))


def column(rng, rows):
    """Return values of any kind of number, and now and then of no number."""
    values = np.round(rng.normal(100, 30, rows), 3)
    values[rng.random(rows) < 0.1] = pick(rng, [np.nan, np.inf, -0.0])
    whole = rng.integers(0, 2**62, rows)
    kinds = {
        "float64": values,
        "float32": values.astype("float32"),
        "float16": values.astype("float16"),
        "big-endian": values.astype(">f8"),
        "int64": whole,
        "uint64": whole.astype("uint64") * 3,
        "int8": (whole % 100).astype("int8"),
        "bool": whole % 2 == 0,
        "Int64": pd.array(whole, dtype="Int64"),
        "objects": np.array([*(whole * 2**40)[:1].tolist(), *values[1:].tolist()], dtype=object),
        "category": pd.Categorical(np.round(values)),
        "missing": pd.array([None] * rows, dtype="Int64"),
        "texts": ["1.5"] * rows,
        "dates": pd.date_range("2020", periods=rows),
        "complex": values + 1j,
    }
    chance = np.array([30, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0.3, 0.3, 0.3, 0.3])
    return kinds[pick(rng, kinds, chance / chance.sum())]


def frame(rng, odd=0.1):
    """Return a frame whose columns are named, ordered and typed at random."""
    rows = pick(rng, [0, 1, 2, 30, 60])
    names = [name for name in NAMES if rng.random() < 0.9]
    names = [pick(rng, [name, name.title(), name.upper()]) for name in rng.permutation(names)]
    index = times(rng, rows)
    table = pd.DataFrame({name: column(rng, rows) for name in names}, index=index)
    if rng.random() < 0.2:
        table = pd.DataFrame(rng.normal(100, 30, (rows, 6)), index=index, columns=NAMES)
    if rng.random() < odd:
        table.index = odd_times(rng, index)
    if rng.random() < 0.2:
        table = table.reset_index(names="DateTime")
    return table


def parameters(rng, table):
    """Return parameters of PandasData for this frame; some are refused by it."""
    chosen = {}
    columns = [None, -1, *range(table.shape[1]), *table.columns]
    for name in NAMES:
        if rng.random() < 0.15:
            chosen[name] = pick(rng, columns)
    if "DateTime" in table.columns:
        chosen["datetime"] = pick(rng, [-1, "DateTime", 0])
    if rng.random() < 0.2:
        chosen["nocase"] = False
    stamps = pd.DatetimeIndex([]) if "DateTime" in table.columns else table.index
    if isinstance(stamps, pd.DatetimeIndex) and len(stamps) and not stamps.hasnans:
        for name in ("fromdate", "todate"):
            if rng.random() < 0.3:
                bound = pick(rng, stamps).floor("us").tz_localize(None)
                bound = bound + timedelta(seconds=pick(rng, [0, 0, -1, 7000]))
                chosen[name] = bound.to_pydatetime()
                if rng.random() < 0.2:
                    chosen[name] = chosen[name].date()
    for name, chance in (("tz", 0.2), ("tzinput", 0.2)):
        if rng.random() < chance:
            chosen[name] = pick(rng, PYTZ_ZONES)
    if rng.random() < 0.2:
        chosen["sessionstart"], chosen["sessionend"] = datetime.time(9), datetime.time(17, 30)
        chosen.update(name="SPX", timeframe=bt.TimeFrame.Minutes, compression=60)
    return chosen


def state(data):
    """Return everything that a preload leaves in a data feed, to the bit."""
    lines = [
        (type(line.array), array("d", line.array).tobytes(), line.idx, len(line), line.extension)
        for line in data.lines
    ]
    names = sorted(vars(data).keys() - {"_columns"})  # that one is FrameData's own
    session = data.sessionstart, data.sessionend, data._timeframe, data._compression, data._name
    rest = (data._idx, data.fromdate, data.todate, data._colmapping, names, session)
    return lines, rest, len(data), data.buflen(), list(data._barstack), list(data.notifs)


def preload(feed, frame, prepare=lambda data: None, lookahead=0, **kwargs):
    """Preload a data feed as Cerebro does, and return its state, or the error that ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = feed(dataname=frame, **kwargs)
            bt.Cerebro().adddata(data)
            data.reset()
            data.extend(size=lookahead)
            data._start()
            prepare(data)
            data.preload()
        except Exception as error:  # whatever PandasData raises is compared
            return repr(error)
        return state(data)

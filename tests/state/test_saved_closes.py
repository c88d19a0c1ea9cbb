"""Windows that are rebuilt from the saved closes equal those before the restart."""

import math

import numpy as np
import pytest

from bt_risk.rules.time_frames import TimeFrames
from bt_risk.state.closes import thinned

NAMES = ["day", "hour", "half day"]
WINDOW, DEPTH = 6, 7


def closes_of(days, midnight, seed=3):
    """Return closes of three time frames as they come: days of 24 hours, a walk each."""
    rng = np.random.default_rng(seed)
    walk = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (days * 24, 3)), axis=0))
    rows = {}
    for hour in range(days * 24):
        time = 700_000 + hour / 24 if midnight else 700_000.7 + hour / 24
        row = {"hour": walk[hour, 1]}
        if hour % 24 == 0:
            row["day"] = walk[hour, 0]
        if hour % 12 == 0:
            row["half day"] = walk[hour, 2]
        rows[time] = row
    return rows


def feed(frames, rows):
    for time, row in rows.items():
        frames.update(time, [row.get(name, math.nan) for name in NAMES])


def seen(frames):
    return [frames.correlations(k, [0, 1, 2]) for k in range(3)]


def saved_of(rows, every=1):
    """Return the closes that are left when they are thinned after every few rows."""
    saved = {}
    for number, (time, row) in enumerate(rows.items()):
        saved[time] = dict(row)
        if number % every == 0:
            saved = thinned(saved, DEPTH)
    return saved


def again(saved):
    frames = TimeFrames(NAMES, WINDOW, 2)
    gaps = []
    for name in NAMES:
        times = [time for time, row in saved.items() if name in row]
        gaps.append(min(np.diff(times), default=math.nan))
    frames.expect(gaps)
    feed(frames, saved)
    return frames


@pytest.mark.parametrize("midnight", [False, True])
@pytest.mark.parametrize("every", [1, 5, 40])
@pytest.mark.parametrize("hours", range(20 * 24, 20 * 24 + 25, 3))
def test_windows_of_several_time_frames_are_made_again(hours, every, midnight):
    rows = dict(list(closes_of(30, midnight).items())[:hours])
    whole = TimeFrames(NAMES, WINDOW, 2)
    feed(whole, rows)
    frames = again(saved_of(rows, every))
    later = dict(list(closes_of(30, midnight).items())[hours : hours + 50])
    for _ in range(2):
        for (rho, counts), (expected, expected_counts) in zip(
            seen(frames), seen(whole), strict=True
        ):
            assert counts.tolist() == expected_counts.tolist()
            assert rho == pytest.approx(expected, nan_ok=True)
        feed(whole, later)
        feed(frames, later)


def test_no_more_is_kept_than_that():
    rows = closes_of(200, midnight=False)
    saved = saved_of(rows, every=25)
    assert len(saved) < 6 * DEPTH + 25
    assert [sum(name in row for row in thinned(saved, DEPTH).values()) for name in NAMES] == [
        DEPTH,
        pytest.approx(3 * DEPTH, abs=DEPTH),
        pytest.approx(2 * DEPTH, abs=DEPTH),
    ]


def test_datas_of_one_time_frame_keep_the_last_closes_of_each():
    rows = {700_000.5 + day: {"A": 1.0 + day, "B": 2.0 + day} for day in range(50)}
    assert list(thinned(rows, 7)) == list(rows)[-7:]


@pytest.mark.parametrize("hour", [-1, -7, -100])
def test_a_close_below_zero_is_among_the_saved_ones(hour):
    rows = closes_of(8, True)
    row = [row for row in rows.values() if "hour" in row][hour]
    row["hour"] = -1.0
    whole = TimeFrames(NAMES, WINDOW, 2)
    feed(whole, rows)
    found = again(saved_of(rows))
    assert found.below_zero([1]).tolist() == whole.below_zero([1]).tolist() == [hour > -8]
    unknown = [np.isnan(rho).tolist() for rho, _ in seen(whole)]
    assert unknown[0] == [False, True, False]  # 100 hours are less than 6 days
    assert [np.isnan(rho).tolist() for rho, _ in seen(found)] == unknown

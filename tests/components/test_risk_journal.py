"""RiskJournal: one line for every decision, in every form a user may want it."""

import json
import logging
import math

import pandas as pd
import pytest
from helpers.scenarios import bars, cerebro, flat, tape_of, taped

import bt_risk
from bt_risk.gate.journal import FIELDS, Journal

FALL = bars(*flat(6), (100, 101, 99, 100), (97, 98, 90, 91), *flat(2, price=91))


def journal_of(plan, frame=FALL, gate=True, **params):
    engine = cerebro(frame)
    if gate:
        engine.setbroker(
            bt_risk.CorrelationCap(
                engine.broker, correlation_limit=None, exposure_limit=0.01, atr_period=3
            )
        )
        engine.addobserver(bt_risk.ATRTrailingStop, atr_period=3)
    engine.addanalyzer(bt_risk.RiskJournal, **params)
    return taped(engine, plan).analyzers.riskjournal


# 1 % of 100,000 at 4 a unit is 250; entry at 100 on bar 6, the stop at 96 fills in bar 8.
PLAN = [
    (2, "buy", {"size": 5}),
    (5, "buy", {"size": 900}),
    (6, "buy", {"size": 10}),
]


def test_every_decision_is_one_line_with_all_its_fields():
    journal = journal_of(PLAN)
    decisions = journal.get_analysis()["decisions"]
    assert [(d["rule"], d["action"]) for d in decisions] == [
        ("ExposureLimit", "reject"),
        ("ExposureLimit", "trim"),
        ("ExposureLimit", "reject"),
        ("ATRTrailingStop", "stop"),
    ]
    assert all(tuple(d) == FIELDS for d in decisions)
    unknown, trim, full, stop = decisions
    assert "ATR(3) needs 4 bars, D0 has 2" in unknown["reason"]
    assert (trim["data"], trim["requested"], trim["allowed"]) == ("D0", 900, 250)
    assert trim["measured"] == pytest.approx(0.036)  # 900 x 4 / 100,000
    assert trim["limit"] == 0.01
    assert trim["reason"] == "ExposureLimit: 0.0360 of equity > exposure_limit 0.0100"
    assert (full["requested"], full["allowed"]) == (10, 0)
    assert stop["limit"] == 96.0


def test_counts_are_by_rule_and_action():
    journal = journal_of(PLAN)
    counts = journal.get_analysis()["counts"]
    assert counts == {
        ("ExposureLimit", "reject"): 2,
        ("ExposureLimit", "trim"): 1,
        ("ATRTrailingStop", "stop"): 1,
    }


def test_the_frame_has_times_and_numbers():
    frame = journal_of(PLAN).frame()
    assert frame.columns.tolist() == list(FIELDS)
    assert frame.time.tolist() == [pd.Timestamp(f"2020-01-{d:02d}") for d in (2, 5, 6, 8)]
    assert frame.requested.dtype == frame.measured.dtype == float


def test_an_order_that_passes_is_a_line_too():
    counts = journal_of([(5, "buy", {"size": 10}), (6, "sell", {"size": 4})]).counts()
    assert sum(counts.values()) == 3  # allowed, exit, and the stop of the rest
    assert {action for _, action in counts} == {"allow", "exit", "stop"}


def test_path_writes_what_the_frame_holds(tmp_path):
    path = tmp_path / "decisions.csv"
    journal = journal_of(PLAN, path=str(path))
    pd.testing.assert_frame_equal(
        pd.read_csv(path, parse_dates=["time"]), journal.frame(), check_dtype=False
    )


def test_jsonl_has_one_object_a_line(tmp_path):
    path = tmp_path / "decisions.jsonl"
    journal_of(PLAN).to_jsonl(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["action"] for line in lines] == ["reject", "trim", "reject", "stop"]
    assert lines[1]["time"].startswith("2020-01-05T00:00:00")


def test_trades_and_r_multiples_by_hand():
    """250 x (96 - 100) = -1,000 of 250 x 4 risked."""
    journal = journal_of(PLAN)
    (trade,) = journal.trades().to_dict("records")
    assert trade["opened"] == pd.Timestamp("2020-01-06")
    assert trade["closed"] == pd.Timestamp("2020-01-08")
    assert (trade["data"], trade["side"], trade["size"], trade["pnl"]) == ("D0", 1, 250, -1000.0)
    assert journal.r_multiples() == [-1.0]


def test_a_trade_without_a_known_risk_has_no_r():
    """Bought and sold before the ATR is there."""
    engine = cerebro(FALL)
    engine.setbroker(bt_risk.RiskBroker(engine.broker))
    engine.addanalyzer(bt_risk.RiskJournal)
    plan = [(1, "buy", {"size": 5}), (2, "close", {})]
    journal = taped(engine, plan).analyzers.riskjournal
    assert len(journal.trades()) == 1
    assert journal.r_multiples() == []


def test_without_a_gate_the_journal_is_empty_and_changes_nothing():
    journal = journal_of(PLAN, gate=False)
    assert journal.frame().empty
    assert journal.frame().columns.tolist() == list(FIELDS)
    assert journal.r_multiples() == []
    assert journal.get_analysis() == {"decisions": [], "counts": {}}


def test_the_journal_alone_leaves_the_run_as_it_was():
    engine = cerebro(FALL)
    assert tape_of(taped(engine, PLAN))["fills"] == [
        (3, "D0", 5, 100.0),
        (6, "D0", 900, 100.0),
        (7, "D0", 10, 100.0),
    ]


@pytest.mark.parametrize(
    ("action", "level"), [("halt", "WARNING"), ("starved", "WARNING"), ("trim", "DEBUG")]
)
def test_what_a_user_must_hear_is_a_warning_and_the_rest_is_debug(action, level, caplog):
    with caplog.at_level(logging.DEBUG, logger="bt_risk"):
        Journal().record(737425.0, "D0", "rule", action, reason="because")
    (record,) = caplog.records
    assert record.levelname == level
    assert record.message == f"2020-01-01 00:00:00 D0 {action} because"


def test_a_line_before_the_first_bar_has_no_time():
    journal = Journal()
    journal.record(math.nan, "", "protect", "note", reason="r")
    assert math.isnan(journal.lines[0][0])


def test_a_misspelt_parameter_raises():
    with pytest.raises(TypeError, match="file"):
        journal_of(PLAN, file="x.csv")

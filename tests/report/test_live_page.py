"""The page of a running state: what it says, that it reads only, and that it grows old visibly."""

import html
import re

import pytest
from helpers.pages import ANGRY, numbers, unpacked
from helpers.restarts import ROWS, run

import bt_risk
from bt_risk.report.live_page import headline
from bt_risk.report.state_summary import summary
from bt_risk.state.file import read_state


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """Return the state file of a run with a closed trade, one position, and a bad name."""
    folder = tmp_path_factory.mktemp("live")
    run(folder, rows=ROWS, names=(ANGRY,))
    return folder / "risk.db"


def once():
    return False


def text_of(path):
    return html.unescape(path.read_text(encoding="utf-8"))


def test_it_says_what_status_says(state, tmp_path):
    path = bt_risk.report.live(state, tmp_path / "live.html", goes_on=once)
    text, found = text_of(path), summary(state, 0.0)
    assert headline(found) in text
    assert found["closed_trades"] > 0
    for one in found["limits"]:
        assert f">{one['name']}</th>" in text
    for part in found["positions"]:
        assert f"<td>{part['size']:+g}</td>" in text
    assert "No run has this state open." in text
    assert re.findall(r'<section id="(\w+)"', text) == [
        "positions",
        "limits",
        "trades",
        "decisions",
    ]


def test_losses_in_r_are_a_table_as_on_the_tear_sheet(state, tmp_path):
    text = text_of(bt_risk.report.live(state, tmp_path / "live.html", goes_on=once))
    losses = summary(state, 0.0)["losses"]
    assert losses["trades"] > 0
    for limit, share in losses["beyond"].items():
        assert f'data-figure="Trades beyond {limit} R" data-value="{share}"' in text
    for sentence in losses["sentences"]:
        assert f'<p class="note">{sentence}</p>' in text


def test_its_journal_and_its_profit_are_those_of_the_state(state, tmp_path):
    text = bt_risk.report.live(state, tmp_path / "live.html", goes_on=once).read_text("utf-8")
    saved = read_state(state, 10_000)
    journal = unpacked(re.search(r'id="journal-lines">(.*?)</script>', text, re.DOTALL)[1])
    reasons = [journal["reason"]["texts"][code] for code in journal["reason"]["codes"]]
    assert reasons == [line[8] for line in saved.decisions]
    (block,) = re.findall(r'class="lines" data-chart="chart-profit">(.*?)</script>', text)
    (line,) = unpacked(block)["panes"][0]["lines"]
    total = sum(trade["pnl"] for trade in saved.trades.values())
    assert numbers(line["steps"], line["unit"])[-1] == pytest.approx(total, rel=1e-4)


def test_it_only_reads_and_leaves_no_part(state, tmp_path):
    before = state.read_bytes()
    turns = iter((True, True, False))
    path = bt_risk.report.live(state, tmp_path / "a.html", 0.01, lambda: next(turns))
    assert state.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["a.html"]


def test_it_stands_beside_the_state_if_no_path_is_given(state):
    path = bt_risk.report.live(state, goes_on=once)
    assert path.name == "risk.db.html"
    path.unlink()


def test_bad_arguments_raise_and_write_nothing(state, tmp_path):
    with pytest.raises(bt_risk.ParameterError, match="another file than the state"):
        bt_risk.report.live(state, state, goes_on=once)
    with pytest.raises(bt_risk.ParameterError, match="seconds must be positive"):
        bt_risk.report.live(state, tmp_path / "a.html", 0, goes_on=once)
    with pytest.raises(bt_risk.StateError):
        bt_risk.report.live(tmp_path / "none.db", tmp_path / "a.html", goes_on=once)
    assert not list(tmp_path.iterdir())


def test_a_name_is_text_and_never_markup(state, tmp_path):
    raw = bt_risk.report.live(state, tmp_path / "a.html", goes_on=once).read_text("utf-8")
    assert ANGRY not in raw
    assert not re.search(r'(src|href)="(?!#|data:|https://www.tradingview.com/")', raw)


def test_a_browser_loads_it_again_and_says_when_it_is_old(state, tmp_path, chromium):
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    path = bt_risk.report.live(state, tmp_path / "a.html", 0.2, once)
    chromium.get(path.as_uri())
    # A page that is being loaded again answers nothing: it is asked again then.
    wait = WebDriverWait(chromium, 30, 0.05, [WebDriverException])

    def ask(what, holds=bool):
        """Return what the page answers once that holds."""
        found = []

        def answers(browser):
            found[:] = [browser.execute_script(f"return {what}")]
            return holds(found[0])

        wait.until(answers)
        return found[0]

    assert ask("document.getElementById('stale').hidden")
    ask("document.documentElement.dataset.drawn === 'all'")
    ask("!document.getElementById('stale').hidden")
    before = ask("document.documentElement.dataset.written")
    bt_risk.report.live(state, path, 0.2, once)
    ask("document.documentElement.dataset.written", lambda found: found not in (None, before))
    assert [one for one in chromium.get_log("browser") if one["level"] == "SEVERE"] == []

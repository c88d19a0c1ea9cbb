"""A store of others, as a stranger installs it: openalgo-backtrader over HTTP and WebSocket.

It lives in an environment of its own; the book of `live/openalgo_venue.py` is the oracle.
"""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers.live_exchange import exchange
from helpers.openalgo_venue import OpenAlgo
from helpers.scenarios import flat
from helpers.shared_data import ROOT
from helpers.slices import sliced

fcntl = pytest.importorskip("fcntl", reason="one environment for all processes needs its locks")
STORE = ["openalgo-backtrader==0.1.11", "openalgo==1.0.47"]
INSTALLED_WITHIN, RUN_WITHIN = 150, 120  # seconds, on however busy a machine
NO_TRAILING = (
    "capabilities: the broker has no trailing stops, unless it is declared, see `bt_risk.Live`"
)


def install(folder):
    """Make an environment that has the store, and all that this one has; return why not, or ""."""
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError as error:
        return f"no environment: {error}"
    # What is here need not be installed twice, and bt_risk is the one under test.
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    theirs = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    lines = [f"import site; site.addsitedir({path!r})\n" for path in sorted(ours)]
    Path(theirs, "outer.pth").write_text("".join(lines))
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", *STORE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLED_WITHIN)
    except subprocess.TimeoutExpired:
        return f"pip took more than {INSTALLED_WITHIN} s"
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """The interpreter that has the store: one for all processes of this test run."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, answer = base / "openalgo", base / "openalgo.txt"
    with open(base / "openalgo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            answer.write_text(install(folder))
    reason = answer.read_text()
    if reason:
        pytest.skip(f"{STORE[0]} cannot be installed: {reason}")
    return folder / "bin" / "python"


def play(python, folder, rows, late=None, **asked):
    """Run the strategy at the venue; return what it has said, and the venue's book."""
    paths = [folder / "asked.json", folder / "said.json"]
    no_certificates = folder / "certificates"  # every request would read them all, for plain HTTP
    no_certificates.mkdir()
    # Only what it needs of the environment: nothing of ours on its path, and no proxy.
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {"SSL_CERT_DIR": str(no_certificates), "MPLCONFIGDIR": str(folder)}
    policy = POLICY | asked.pop("policy", {})
    with exchange(rows, 20, folder, OpenAlgo, late=late) as venue:
        paths[0].write_text(json.dumps(asked | {"port": venue.port, "policy": policy}))
        command = [
            str(python),
            str(ROOT / "tests" / "helpers" / "openalgo_run.py"),
            *map(str, paths),
        ]
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=RUN_WITHIN
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(paths[1].read_text()), venue.book


def lines(said, action):
    return [row["reason"] for row in said["journal"] if row["action"] == action]


def stops(book):
    return [order for order in book["orders"] if order["type"] == "STOP_LOSS"]


def sound(said, book, *fills):
    """The oracle: these fills and no others, no flip, no second stop; flat, with nothing left."""
    assert book["trouble"] == []
    assert [tuple(fill[1:]) for fill in book["fills"]] == list(fills)
    assert book["open"] == []
    assert book["position"] == said["position"] == said["held"][-1] == 0


# -- an entry, a trailing stop, a breaker ----------------------------------------------------------

POLICY = dict(
    risk_limit=None,
    exposure_limit=None,
    action="pause",
    drawdown_limit=0.05,
    atr_multiple=3.0,
    instruments={"TCS": {"tick": 0.05}},
)
# Up, and down to the stop of the first position; then down far enough for the breaker.
RISE = [(100.0 + k, 102.0 + k, 99.0 + k, 101.0 + k) for k in range(6)]
DROP = [(106.0, 106.5, 98.0, 98.5), *flat(3, 98.5)]
FALL = [(98.5, 99.0, 96.5, 97.0), (97.0, 97.2, 94.5, 95.0), *flat(4, 95.0)]
LIFE = [*flat(22), *RISE, *DROP, *FALL]
BUYS = {22: 300, 31: 900, 36: 900}


@pytest.mark.parametrize(
    "known", sliced([{"funds": True}, {"cash": 100_000.0}], 2), ids=["equity", "cash"]
)
def test_entry_trailing_stop_and_breaker_at_the_venue(known, python, tmp_path):
    said, book = play(python, tmp_path, LIFE, buys=BUYS, capabilities={}, trail_at=24, **known)
    sound(
        said,
        book,
        ("BUY", 300, 100.0, 22),
        ("SELL", 300, 98.95, 29),
        ("BUY", 900, 98.5, 31),
        ("SELL", 900, 95.0, 34),
    )
    first, second = ([o for o in stops(book) if o["origQty"] == size] for size in ("300", "900"))
    assert first + second == stops(book)
    # The entry's, and one more for each bar of the rise: cancelled, all but the one that filled.
    assert [order["status"] for order in first] == [*["CANCELED"] * 6, "FILLED"]
    assert {order["status"] for order in second} == {"CANCELED"}
    for trail in first, second:
        levels = [float(order["stopPrice"]) for order in trail]
        assert levels == sorted(set(levels))
    assert len(book["orders"]) == len(stops(book)) + 3  # entries and the flattening: nothing twice
    assert [reason[:15] for reason in lines(said, "stop")] == ["filled at 98.95"]
    assert lines(said, "reject") == [NO_TRAILING, *lines(said, "halt")]
    assert said["breaker"]["state"] == "LOCKED"
    assert said["breaker"]["flattened"]
    assert len(said["sentences"]) == 1
    assert "DrawdownBreaker" in said["sentences"][0]
    ended = [order[2] for order in said["orders"] if order[0] == 36]
    assert ended == ["Rejected"]


@pytest.mark.full
def test_without_equity_the_store_s_fiction_hides_a_drawdown_from_the_breaker(python, tmp_path):
    """0.1.11 begins with 1,000,000 whatever the account has, and nobody here can tell."""
    said, book = play(python, tmp_path, LIFE, buys=BUYS, capabilities={})
    assert book["trouble"] == []
    highest = 100_000 + 300 * 6.0
    equity = book["cash"] + book["position"] * 95.0
    assert 1 - equity / highest > POLICY["drawdown_limit"]
    assert said["breaker"]["max_drawdown"] < POLICY["drawdown_limit"]
    assert said["sentences"] == lines(said, "halt") == lines(said, "equity") == []
    assert book["position"] == 1800  # the last entry passed, too
    assert [order["origQty"] for order in book["open"]] == ["1800"]


# -- a stop that fills while nobody has been told --------------------------------------------------

CRASH = [*flat(22), *RISE[:3], (103.0, 103.5, 89.5, 90.0), *flat(4, 90.0)]
BOUGHT, STOPPED = ("BUY", 900, 100.0, 22), ("SELL", 900, 96.45, 26)


def crash(python, folder, late, checked, **capabilities):
    """Run through a bar in which the stop fills and the breaker trips before that is known."""
    asked = dict(buys={22: 900}, capabilities=capabilities, funds=True, checked=checked)
    said, book = play(python, folder, CRASH, late, **asked)
    assert len(lines(said, "halt")) == 1
    assert said["position"] == 0
    return said, book


@pytest.mark.full
def test_a_breaker_does_not_sell_what_the_stop_has_sold_already(python, tmp_path):
    """The cancel is refused: the stop is left to the store's next look, which finds it filled."""
    said, book = crash(python, tmp_path, "until cancelled", checked=True)
    sound(said, book, BOUGHT, STOPPED)
    actions = [row["action"] for row in said["journal"]]
    assert actions[-3:] == ["halt", "stop", "flat"]


@pytest.mark.full
def test_an_emulated_stop_needs_no_cancel_that_is_true(python, tmp_path):
    said, book = crash(python, tmp_path, None, checked=False, stop=False)
    sound(said, book, BOUGHT, ("SELL", 900, 90.0, 26))
    assert stops(book) == []
    assert len(lines(said, "emulated")) == 1
    assert any("emulated" in sentence for sentence in said["sentences"])


@pytest.mark.full
def test_as_installed_a_cancel_that_is_not_true_flips_the_account(python, tmp_path):
    """0.1.11 says Canceled whatever it was answered: what `docs/live.md` warns of."""
    _, book = crash(python, tmp_path, "forever", checked=False)
    assert [tuple(fill[1:]) for fill in book["fills"]] == [BOUGHT, STOPPED, ("SELL", 900, 90.0, 26)]
    assert book["position"] == -900


# -- bt-risk doctor --------------------------------------------------------------------------------

SWING = [99.9, 100.1, 100.3, 100.0, 99.8, 100.0, 100.2]
NAMED = {
    "islive()",
    "cash",
    "restart: position",
    "restart: open orders",
    "type: trailing stop",
    "type: OCO",
    "type: bracket",
}


@pytest.mark.parametrize(
    "checked",
    [pytest.param(True, marks=pytest.mark.full), pytest.param(False, marks=pytest.mark.soak)],
)
def test_the_doctor_names_the_faults_of_this_store(checked, python, tmp_path):
    closes = [SWING[k % len(SWING)] for k in range(30_000)]
    rows = [(c, c + 0.1, c - 0.1, c) for c in closes]
    paths = tmp_path / "asked.json", tmp_path / "said.json"
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {"SSL_CERT_DIR": str(tmp_path), "MPLCONFIGDIR": str(tmp_path)}
    with exchange(rows, 20, tmp_path, OpenAlgo, late=None) as venue:
        asked = {"port": venue.port, "checked": checked, "cash": 100_000.0}
        paths[0].write_text(json.dumps(asked))
        script = ROOT / "tests" / "helpers" / "openalgo_doctor.py"
        command = [str(python), str(script), *map(str, paths)]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr[-3000:]
        book = venue.book
    said = json.loads(paths[1].read_text())
    failed = {check for check, (result, _) in said["rows"].items() if result == "fail"}
    assert failed == (NAMED if checked else NAMED | {"cancel of a filled order"})
    assert said["rows"]["type: trailing stop"][1].startswith("it was sent as a market order")
    assert (book["position"], book["open"], said["left"]) == (0, [], [])
    assert 'equity = "callable"' in said["toml"]
    assert f"stop = {str(checked).lower()}" in said["toml"]

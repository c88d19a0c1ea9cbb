"""Arrows point down only, and every module says what is public."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import bt_risk

PACKAGE = Path(bt_risk.__file__).parent

# From the bottom up. A module imports from lower lines only; those of a folder also from it.
LAYERS = [
    ["errors"],
    ["journal", "state", "live", "alerts", "freshness", "facade"],
    ["rules"],
    ["prices", "instrument", "feeds"],
    ["position", "ticket", "verdict", "curve", "datasets"],
    ["stakes", "windows", "records"],
    ["recorder"],
    ["reconcile"],
    ["recovery"],
    ["book", "equity", "wire", "funds", "brackets", "exits", "handover"],
    ["states", "shutdown", "watch", "stop_keeper"],
    ["desk", "execution", "ledger"],
    ["gate_rules"],
    ["broker"],
    ["weights"],
    ["sizers", "parity_sizer", "stops", "caps", "portfolio_risk", "breakers"],
    ["policy", "observers"],
    ["report", "sweep", "portfolios", "summary", "pictures"],
    ["evidence"],
    ["demo"],
    ["tables", "status"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FOLDERS = ["rules", "report", "evidence"]
PURE = ["rules", "book", "stakes", "windows", "curve", "position", "instrument"]


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("bt_risk", *(p for p in parts if p != "__init__")))


def imports(path):
    """Yield the full name of every module that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            if node.module == "bt_risk":
                yield from (f"bt_risk.{alias.name}" for alias in node.names)
            else:
                yield node.module


def component(name):
    """Return ``stops`` for ``bt_risk.components.trailing_stop``, ``rules`` for anything below it."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "bt_risk"


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] != "data")
INNER = [p for p in FILES if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", INNER, ids=module_name)
def test_arrows_point_down(path):
    own = component(module_name(path))
    assert own in RANK, f"{own}: give it a place in LAYERS"
    for name in imports(path):
        if not name.startswith("bt_risk."):
            continue
        other = component(name)
        public = set(bt_risk.__all__) | {"__version__"}
        if other in public and other not in RANK:
            assert RANK[own] > RANK["policy"], f"{own} imports {other} from the package itself"
        elif other != "data" and not (own == other and own in FOLDERS):
            assert RANK[other] < RANK[own], f"{own} -> {other} runs up"


@pytest.mark.parametrize("path", INNER, ids=module_name)
def test_the_pure_modules_do_not_know_backtrader(path):
    own = component(module_name(path))
    if own in PURE:
        assert not [name for name in imports(path) if name.split(".")[0] == "backtrader"]


HEAVY = ["pyfolio", "empyrical", "matplotlib", "plotly", "jinja2", "rich", "typer", "arch"]


def test_import_is_light():
    code = f"import sys, bt_risk; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_packages_are_not_imported_with_the_package(name):
    """Not by what `import bt_risk` loads: from the policy down, and the data."""
    for path in INNER:
        if RANK[component(module_name(path))] <= RANK["policy"]:
            assert name not in {i.split(".")[0] for i in imports(path)}, path.name


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_module_says_what_is_public_and_has_it(path):
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    if path.name == "__main__.py" or len(statements) <= 1:  # nothing but a docstring
        return
    module = importlib.import_module(module_name(path))
    assert module.__doc__
    for name in module.__all__:
        assert hasattr(module, name), f"{module.__name__}.__all__ names {name}"
    assert len(set(module.__all__)) == len(module.__all__)


def test_the_public_names_are_sorted_and_complete():
    public = [n for n, v in vars(bt_risk).items() if not n.startswith("_") and not _is_module(v)]
    assert bt_risk.__all__ == sorted(public)


def _is_module(value):
    return type(value).__name__ == "module"


def test_the_names_of_the_design_are_there():
    names = """ATRTrailingStop BtRiskError CorrelationCap DrawdownBreaker HalfKellySizer
        ParameterError Policy PortfolioRisk RiskBroker RiskJournal RiskManager StateError atr
        atr_stop correlation_exposure correlation_matrix drawdown empirical_kelly generate_signal
        half_kelly_position high_water_mark inverse_volatility kelly_criterion kelly_lower_bound
        list_data load_data position_size protect ratchet read_prices risk_parity
        rolling_correlation"""
    assert set(names.split()) <= set(bt_risk.__all__)


def test_an_import_inside_a_function_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "def f():\n    from bt_risk.policy import protect\n    import backtrader.feeds\n"
    )
    assert list(imports(path)) == ["bt_risk.policy", "backtrader.feeds"]

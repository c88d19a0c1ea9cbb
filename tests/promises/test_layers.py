"""Imports run downwards only, and every module says what is public."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import bt_risk

PACKAGE = Path(bt_risk.__file__).parent

# From the bottom up. A module imports from lower lines only, and from its own folder.
LAYERS = [
    ["errors", "known_engine", "tolerances"],
    ["parameters"],
    ["rules", "feeds", "stores"],
    ["engine", "signals"],
    ["portfolio"],
    ["limits"],
    ["orders"],
    ["monitors", "live", "state"],
    ["gate"],
    ["components"],
    ["report", "policy", "doctor"],
    ["protection"],
    ["evidence"],
    ["demo", "paper"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PURE = ["rules", "limits", "portfolio"]
HEAVY = {"pyfolio", "empyrical", "matplotlib", "litecharts", "jinja2", "rich", "typer", "arch"}
# Data, and the example that is part of the installed package, are no modules of ours.
OTHERS = [("data",), ("paper", "example")]
FILES = sorted(
    p
    for p in PACKAGE.rglob("*.py")
    if not any(p.relative_to(PACKAGE).parts[: len(other)] == other for other in OTHERS)
)
INNER = [p for p in FILES if p != PACKAGE / "__init__.py"]


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


def folder(path):
    """Return the name in LAYERS that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def upward(path):
    """Return the imports of a file that run up or sideways."""
    own, public = folder(path), set(bt_risk.__all__) | {"__version__"}
    found = []
    for name in imports(path):
        if name.startswith("bt_risk."):
            other = name.split(".")[1]
            if other in public and other not in RANK:
                other = "policy"  # a name of the package itself
            if other not in (own, "data") and RANK[other] >= RANK[own]:
                found.append(f"{module_name(path)} -> {name}")
    return found


def test_every_folder_has_a_place():
    assert {folder(path) for path in INNER} == set(RANK)


def test_imports_run_downwards():
    assert [arrow for path in INNER for arrow in upward(path)] == []


def test_the_pure_folders_do_not_import_backtrader():
    pure = [path for path in INNER if folder(path) in PURE]
    assert len(pure) > 25
    assert [p.name for p in pure if "backtrader" in {i.split(".")[0] for i in imports(p)}] == []


def test_heavy_packages_are_not_imported_with_the_package():
    """Not by what `import bt_risk` loads: from the policy down."""
    code = f"import sys, bt_risk; print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    low = [path for path in INNER if RANK[folder(path)] <= RANK["components"]]
    assert [p.name for p in low if HEAVY & {i.split(".")[0] for i in imports(p)}] == []


def test_every_module_says_what_is_public_and_has_it():
    for path in FILES:
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        assert ast.get_docstring(ast.Module(statements, [])), path
        if path.name == "__main__.py" or len(statements) <= 1:  # nothing but a docstring
            continue
        module = importlib.import_module(module_name(path))
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert missing == [], module.__name__
        assert len(set(module.__all__)) == len(module.__all__), module.__name__


def test_the_public_names_are_sorted_and_complete():
    public = [name for name in dir(bt_risk) if not _is_module(getattr(bt_risk, name))]
    assert bt_risk.__all__ == sorted(public)


def _is_module(value):
    return type(value).__name__ == "module"


def test_the_names_of_the_design_are_there():
    names = """ATRTrailingStop BtRiskError CorrelationCap DrawdownBreaker FrameData HalfKellySizer
        ParameterError Policy PortfolioRisk RiskBroker RiskJournal RiskManager StateError atr
        atr_stop correlation_exposure correlation_matrix drawdown empirical_kelly generate_signal
        half_kelly_position high_water_mark inverse_volatility kelly_criterion kelly_lower_bound
        list_data load_data position_size protect ratchet read_prices risk_parity
        rolling_correlation"""
    assert set(names.split()) <= set(bt_risk.__all__)
    assert bt_risk.feeds.FrameData is bt_risk.FrameData


def test_an_import_inside_a_function_is_seen(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "def f():\n    from bt_risk.policy import protect\n    import backtrader.feeds\n"
    )
    assert list(imports(path)) == ["bt_risk.policy", "backtrader.feeds"]


def test_an_import_that_runs_up_or_sideways_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / "live" / "module.py"
    path.parent.mkdir()
    path.write_text("import bt_risk.gate.broker\nimport bt_risk.state.file\nimport bt_risk.rules\n")
    assert upward(path) == [
        "bt_risk.live.module -> bt_risk.gate.broker",
        "bt_risk.live.module -> bt_risk.state.file",
    ]

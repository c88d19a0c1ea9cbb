"""The picture of the main figures: data feeds, growth and peers."""

from matplotlib.figure import Figure

__all__ = ["draw"]

COLOURS = {
    "bare": "0.6",
    "bare, bt_risk.fast": "tab:cyan",
    "protect": "tab:blue",
    "protect, fast=False": "tab:orange",
}


def draw(path, rows):
    """Draw what there is of these parts into a PNG."""
    panels = {"speed": _speed, "growth": _growth, "peers": _peers}
    own = {part: [row for row in rows if row.part == part and row.ratio] for part in panels}
    own = {part: found for part, found in own.items() if found}
    if not own:
        return
    figure = Figure(figsize=(6.0 * len(own), 4.2), layout="constrained")
    places = figure.subplots(1, len(own), squeeze=False)[0]
    for axes, (part, found) in zip(places, own.items(), strict=True):
        panels[part](axes, found)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _speed(axes, rows):
    """Draw the ratios to the bare run, side by side for each number of data feeds."""
    rows = [row for row in rows if row.to == "bare"]
    works = list(dict.fromkeys(row.work for row in rows))
    names = list(dict.fromkeys(row.run for row in rows))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        found = [row for row in rows if row.run == name]
        left = [works.index(row.work) + (place - len(names) / 2 + 0.5) * width for row in found]
        bars = axes.bar(
            left, [row.ratio.median for row in found], width, label=name, color=COLOURS.get(name)
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(range(len(works)), works, fontsize=8)
    axes.set_ylabel("CPU time, bare Backtrader = 1")
    axes.set_title("By data feeds")
    axes.set_ylim(top=1.7)  # room for the names of the colours
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center")


def _growth(axes, rows):
    """Draw microseconds a bar over the number of bars."""
    rows = [row for row in rows if row.size]
    for name in dict.fromkeys(row.run for row in rows):
        found = [row for row in rows if row.run == name]
        axes.plot(
            [row.size for row in found],
            [1e6 * row.seconds for row in found],
            marker="o",
            label=name,
            color=COLOURS.get(name),
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bars")
    axes.set_ylabel("microseconds a bar")
    axes.set_title("By bars, one data feed")
    axes.legend(fontsize=8, frameon=False)


def _peers(axes, rows):
    """Draw the ratios to bare Backtrader on a logarithmic scale."""
    first = rows[0].work
    rows = sorted((row for row in rows if row.work == first), key=lambda row: -row.ratio.median)
    ours = ["tab:blue" if "bt_risk" in row.run else "0.6" for row in rows]
    bars = axes.barh([row.run for row in rows], [row.ratio.median for row in rows], color=ours)
    axes.bar_label(bars, [f"{row.ratio.median:.3g}" for row in rows], fontsize=8, padding=2)
    axes.set_xscale("log")
    axes.set_xlim(left=0.4 * min(row.ratio.median for row in rows), right=3.0)
    axes.set_xlabel("CPU time, bare Backtrader = 1")
    axes.set_title(f"Engines: {first}")

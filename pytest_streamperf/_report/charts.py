"""How the series of a check are drawn: Vega-Lite pictures, by name, and which of them is whose."""

from collections.abc import Mapping, Sequence
from typing import Any

# The colors are those of the page: a chart follows it from light to dark, and to paper.
_INK, _MUTED, _LINE = "var(--ink)", "var(--muted)", "var(--line)"
_MAIN, _OTHER, _THIRD = "var(--chart-main)", "var(--chart-other)", "var(--chart-third)"

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": _LINE,
        "gridColor": _LINE,
        "tickColor": _LINE,
        "labelColor": _MUTED,
        "labelFontSize": 12,
        "titleColor": _MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "axisX": {"grid": False},
    "legend": {"orient": "top", "labelColor": _INK, "labelFontSize": 12, "title": None},
    "point": {"filled": True, "size": 32, "opacity": 1, "color": _MAIN},
    "rule": {"color": _MAIN, "strokeWidth": 1},
}


def _along(title: str, unit: str = "") -> dict[str, Any]:
    label = f"format(datum.value, '~s') + '{unit}'"  # 0.0000024 is 2.4µ
    axis = {"title": title, "labelExpr": label, "tickCount": 5, "labelOverlap": True}
    return {"type": "quantitative", "axis": axis}


def _chart(
    caption: str, x: Mapping[str, Any], y: Mapping[str, Any], *layers: Any
) -> dict[str, Any]:
    """A picture of rows that have `x` and `y`, and come by the name of their series."""
    encoding = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}
    spec = {"height": 200, "encoding": encoding, "layer": layers, "config": CONFIG}
    return {"caption": caption, "spec": spec}


def _layer(series: str, mark: str, encoding: Mapping[str, Any] | None = None, **how: Any) -> Any:
    tooltip = [{"field": "x", "title": "at"}, {"field": "y", "title": series}]
    return {
        "data": {"name": series},
        # The figures are in a table beside it, which says them better than a name for each point.
        "mark": {"type": mark, "aria": False, **how},
        "encoding": {"tooltip": tooltip, **(encoding or {})},
    }


def _growth(series: str, what: str, unit: str) -> dict[str, Any]:
    return _chart(
        f"{what} per delta, by length of the stream: dots as measured, the line as fitted",
        _along("length, in deltas"),
        _along(f"{what.lower()} per delta", unit),
        _layer("fit", "line", color=_OTHER, strokeDash=[6, 4], strokeWidth=2),
        _layer(series, "point"),
    )


def _timeline(came: str, went: str) -> dict[str, Any]:
    return _chart(
        f"Text over time: the steps are {came} as they came, each stem is one of the {went}",
        _along("time since the first", "s"),
        _along("text", "B"),
        _layer(came, "line", interpolate="step-after", color=_OTHER, strokeWidth=2),
        _layer(went, "rule", {"y2": {"datum": 0}}),
        _layer(went, "point"),
    )


def _responsiveness() -> dict[str, Any]:
    colors = {"gaps": _OTHER, "stalls": _MAIN, "pauses": _THIRD}
    looks = {
        "color": {"domain": list(colors), "range": list(colors.values())},
        "shape": {"domain": list(colors), "range": ["circle", "diamond", "square"]},
    }
    return _chart(
        "Where the stream stood still, and for how long; the dashed lines are limits",
        _along("time since the first", "s"),
        _along("stood still for", "s"),
        _layer("limits", "rule", {"x": None}, color=_INK, strokeDash=[4, 3]),
        _layer(
            "limits",
            "text",
            {"x": {"value": 4}, "text": {"field": "name"}},
            color=_INK,
            align="left",
            dy=-7,
        ),
        *(
            _layer(
                kind,
                "point",
                {way: {"datum": kind, "scale": scale} for way, scale in looks.items()},
            )
            for kind in colors
        ),
        *(_layer(kind, "rule", {"y2": {"datum": 0}}, color=colors[kind]) for kind in colors),
    )


CHARTS = {
    "allocated_bytes": _growth("allocated_bytes", "Allocated bytes", "B"),
    "calls": _growth("calls", "Calls", ""),
    "cpu_time": _growth("cpu_time", "CPU time", "s"),
    "updates": _timeline("deltas", "updates"),
    "flushes": _timeline("writes", "flushes"),
    "gaps": _responsiveness(),
}
"""Caption and Vega-Lite specification of each chart, by the name of the series it is about."""


def chart(check: Mapping[str, Any]) -> str:
    """Which of `CHARTS` shows the series of a check; "" if none does.

    >>> chart({"facts": {"metric": "calls"}, "series": {"cpu_time": [[1, 2]], "calls": [[1, 2]]}})
    'calls'
    """
    names: Sequence[str] = (check["facts"].get("metric", ""), *CHARTS)
    return next((name for name in names if name in CHARTS and check["series"].get(name)), "")


COLUMNS = {
    "allocated_bytes": ("length in deltas", "bytes allocated per delta"),
    "calls": ("length in deltas", "calls per delta"),
    "cpu_time": ("length in deltas", "seconds per delta"),
    "fit": ("length in deltas", "fitted"),
    **dict.fromkeys(("deltas", "writes"), ("seconds since the first", "bytes so far")),
    **dict.fromkeys(("updates", "flushes"), ("seconds since the first", "bytes carried")),
    "gaps": ("at second", "gap in seconds"),
    "stalls": ("at second", "stall in seconds"),
    "pauses": ("at second", "pause in seconds"),
    "attempts": ("attempt", "target", "answer"),
}
"""What the columns of each series are."""

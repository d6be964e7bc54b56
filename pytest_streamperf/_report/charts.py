"""Vega-Lite charts of the HTML report: one specification for each kind of series.

A check holds series, which are rows of numbers by name. `chart` names the chart that shows them;
`CHARTS` holds its caption and specification, and `COLUMNS` the column titles of its tables.
A specification holds no data: `page.js` adds the rows from the tables of the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Colors are CSS variables of the page, so that charts follow its light, dark and print styles.
_INK, _MUTED, _LINE = "var(--ink)", "var(--muted)", "var(--line)"
_MAIN, _OTHER, _THIRD = "var(--chart-main)", "var(--chart-other)", "var(--chart-third)"

# Sizes are in pixels; those of points are in square pixels. Not measured: a matter of taste.
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


def _number_axis(title: str, unit: str = "") -> dict[str, Any]:
    """Return the encoding of an axis whose labels have an SI prefix and the unit."""
    label = f"format(datum.value, '~s') + '{unit}'"  # 0.0000024 is 2.4µ
    axis = {"title": title, "labelExpr": label, "tickCount": 5, "labelOverlap": True}
    return {"type": "quantitative", "axis": axis}


def _chart(
    caption: str, x: Mapping[str, Any], y: Mapping[str, Any], *layers: Any
) -> dict[str, Any]:
    """Return a caption and a specification for rows with the fields `x` and `y`."""
    encoding = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}
    spec = {"height": 200, "encoding": encoding, "layer": layers, "config": CONFIG}
    return {"caption": caption, "spec": spec}


def _layer(
    series: str, mark: str, encoding: Mapping[str, Any] | None = None, **mark_properties: Any
) -> Any:
    """Return one layer of a chart, which draws the series of this name."""
    tooltip = [{"field": "x", "title": "at"}, {"field": "y", "title": series}]
    return {
        "data": {"name": series},
        # A table beside the chart gives screen readers the figures better than a name per point.
        "mark": {"type": mark, "aria": False, **mark_properties},
        "encoding": {"tooltip": tooltip, **(encoding or {})},
    }


def _growth_chart(series: str, cost: str, unit: str) -> dict[str, Any]:
    return _chart(
        f"{cost} per delta, by length of the stream: dots are measurements, the line is the fit",
        _number_axis("length, in deltas"),
        _number_axis(f"{cost.lower()} per delta", unit),
        _layer("fit", "line", color=_OTHER, strokeDash=[6, 4], strokeWidth=2),
        _layer(series, "point"),
    )


def _timeline_chart(inputs: str, outputs: str) -> dict[str, Any]:
    """Return the chart of a throttling check: its input as steps, its output as vertical lines."""
    return _chart(
        f"Text over time: the steps are {inputs} as they arrived, "
        f"each vertical line is one of the {outputs}",
        _number_axis("time since the start", "s"),
        _number_axis("text", "B"),
        _layer(inputs, "line", interpolate="step-after", color=_OTHER, strokeWidth=2),
        _layer(outputs, "rule", {"y2": {"datum": 0}}),
        _layer(outputs, "point"),
    )


def _responsiveness_chart() -> dict[str, Any]:
    colors = {"gaps": _OTHER, "stalls": _MAIN, "pauses": _THIRD}
    scales = {
        "color": {"domain": list(colors), "range": list(colors.values())},
        "shape": {"domain": list(colors), "range": ["circle", "diamond", "square"]},
    }
    return _chart(
        "Gaps, stalls and pauses: when each happened and how long it took; dashed lines are limits",
        _number_axis("time since the start", "s"),
        _number_axis("duration", "s"),
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
                {channel: {"datum": kind, "scale": scale} for channel, scale in scales.items()},
            )
            for kind in colors
        ),
        *(_layer(kind, "rule", {"y2": {"datum": 0}}, color=colors[kind]) for kind in colors),
    )


CHARTS = {
    "allocated_bytes": _growth_chart("allocated_bytes", "Allocated bytes", "B"),
    "calls": _growth_chart("calls", "Calls", ""),
    "cpu_time": _growth_chart("cpu_time", "CPU time", "s"),
    "updates": _timeline_chart("deltas", "updates"),
    "flushes": _timeline_chart("writes", "flushes"),
    "gaps": _responsiveness_chart(),
}
"""Caption and Vega-Lite specification of each chart, by the name of its main series."""


def chart(check: Mapping[str, Any]) -> str:
    """Return the key in `CHARTS` of the chart for a check; "" if no chart fits its series.

    The series of the check's metric comes first, then the order of `CHARTS`.

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
    **dict.fromkeys(("deltas", "writes"), ("seconds since the start", "bytes so far")),
    **dict.fromkeys(("updates", "flushes"), ("seconds since the start", "bytes carried")),
    "gaps": ("at second", "gap in seconds"),
    "stalls": ("at second", "stall in seconds"),
    "pauses": ("at second", "pause in seconds"),
    "attempts": ("attempt", "target", "answer"),
}
"""Column titles of the table of each series, by the name of the series."""

"""The words and figures of a growth result: headline, table, advice, and what machines read.

In go the result and the options of the check; out comes the result with its texts. Nothing is
measured or computed again here: costs come from the result's curves.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_streamperf._results.metrics import Figures, Place, known
from pytest_streamperf._results.text import labelled_lines, location_lines, sparkline, table_lines
from pytest_streamperf._results.units import duration, percent, size, thousands
from pytest_streamperf.growth.advice import advice_for
from pytest_streamperf.growth.cost_curve import CostCurve
from pytest_streamperf.growth.estimation import carried
from pytest_streamperf.growth.options import GrowthOptions, Metric
from pytest_streamperf.growth.result import GrowthResult

_ACCEPT = "if these streams stay short"
_MAX_TABLE_ROWS = 3  # a message has room for 16 lines

# The title of a metric's column, and the function that formats its figures.
_COLUMNS: dict[Metric, tuple[str, Callable[[float], str]]] = {
    "cpu_time": ("per delta", duration),
    "allocated_bytes": ("allocated per delta", size),
    "calls": ("calls per delta", thousands),
}
# If no metric decided, the first of these that has a curve is drawn: time shows most.
_DRAWN_FIRST: tuple[Metric, ...] = ("cpu_time", "calls", "allocated_bytes")


def worded(result: GrowthResult, options: GrowthOptions) -> GrowthResult:
    """Return the result with its headline, details, figures, series and picture.

    Growth in allocated bytes that `copies="warn"` accepts becomes a warning, and is within.
    """
    complete = replace(
        result,
        headline=_headline(result, options),
        details=_details(result, options),
        figures=_figures(result, options),
        where=[Place(line.places[0], line.source, line.share) for line in result.blame],
        series=_series(result, options),
        picture=_picture(result),
    )
    if result.metric == "allocated_bytes" and options.copies == "warn":
        return replace(complete, verdict="within", details=(), warning=complete.headline)
    return complete


def _headline(result: GrowthResult, options: GrowthOptions) -> str:
    """Return a line with the measured figures, then the limit."""
    limit = f"limit {percent(options.max_superlinear)}"
    if result.verdict == "inconclusive":
        return f"inconclusive up to {options.max_length:,} deltas, {limit}"
    share = f"{percent(result.superlinear_share)} superlinear, {limit}"
    if result.verdict == "within":
        reached = result.measured_to == options.max_length
        run = "" if reached else f" ({result.measured_to:,} run)"
        return f"{options.max_length:,} deltas{run}, {share}"
    return f"{result.measured_to:,} deltas{_total_cost_text(*_deciding_curve(result))}, {share}"


def _deciding_curve(result: GrowthResult) -> tuple[Metric, CostCurve]:
    """Return the metric that decided that a limit is exceeded, and its curve."""
    assert result.metric is not None  # noqa: S101 - without one nothing is exceeded
    return result.metric, result.curves[result.metric]


def _total_cost_text(metric: Metric, curve: CostCurve) -> str:
    return {
        "allocated_bytes": f" allocated {size(curve.total)}",
        "calls": f", {thousands(curve.total)} calls",
        "cpu_time": f" took {duration(curve.total)}",
    }[metric]


def _details(result: GrowthResult, options: GrowthOptions) -> Sequence[str]:
    """Return the lines after the headline: table and advice, or why it is inconclusive."""
    if result.verdict == "within":
        return ()
    if result.verdict == "inconclusive":
        return ("", *labelled_lines({"why": result.why}))
    guilty = result.blame[0] if result.blame else None
    source = guilty.source if guilty else ""
    call = guilty.call if guilty else ""
    advice = advice_for(source, call, counted=result.metric == "calls")
    if guilty:
        lines = location_lines(guilty.places, source, f"({percent(guilty.share)} of growth)")
    else:
        lines = labelled_lines({"where": "not found: no line of yours was seen to grow"})
    lines += labelled_lines(
        {
            "means": advice.means,
            "costs": _costs_text(result, options),
            "try": advice.remedy,
            "allow": _allow_text(result),
        }
    )
    return ("", *_table(result), "", *lines)


def _allow_text(result: GrowthResult) -> str:
    if result.metric == "allocated_bytes":
        return f'copies="warn", {_ACCEPT}'
    # In steps of 5%, and a step above the share: one near its limit would be inconclusive.
    limit = min(1.0, (result.superlinear_share * 100 // 5 + 2) * 0.05)
    return f"max_superlinear={limit:.2f}, {_ACCEPT}"


def _table(result: GrowthResult) -> list[str]:
    """Return the cost per delta along the way: CPU time, and the metric that decided."""
    metric, curve = _deciding_curve(result)
    lengths = [length for length, _ in curve.points]
    step = -2 if len(lengths) > 2 * _MAX_TABLE_ROWS else -1
    lengths = lengths[::step][:_MAX_TABLE_ROWS][::-1]
    columns = {}
    for name in _COLUMNS:
        if name in {"cpu_time", metric} and name in result.curves:
            costs = dict(result.curves[name].points)
            if set(lengths) <= costs.keys():
                columns[name] = [costs[length] for length in lengths]
    head, cells = ["deltas"], [[f"{length:,}" for length in lengths]]
    for name, column in columns.items():
        title, formatted = _COLUMNS[name]
        head.append(title)
        cells.append([formatted(cost) for cost in column])
    first = next(iter(columns))
    note = f"linear: about {_COLUMNS[first][1](min(columns[first]))}"
    return table_lines(head, [list(row) for row in zip(*cells, strict=True)], note)


def _costs_text(result: GrowthResult, options: GrowthOptions) -> str:
    """Return what the work comes to at the maximum length, and at ten times that."""
    metric, curve = _deciding_curve(result)
    share = result.superlinear_share
    if metric != "cpu_time" and "cpu_time" in result.curves:
        metric, curve = "cpu_time", result.curves["cpu_time"]
        if not curve.mostly_finish:
            share = carried(curve.superlinear_share, curve.length, result.measured_to)
    longer = options.max_length / result.measured_to
    now, later = (
        _COLUMNS[metric][1](curve.total * ((1 - share) * factor + share * factor**2))
        for factor in (longer, 10 * longer)
    )
    return f"{now} at {options.max_length:,} deltas, about {later} at {10 * options.max_length:,}"


def _figures(result: GrowthResult, options: GrowthOptions) -> Figures:
    """Return the figures that machines read."""
    low, high = result.superlinear_interval
    calls = result.curves.get("calls")
    last_calls = [round(cost) for _, cost in calls.points[-2:]] if calls else []
    # Calls that vary along the way differ between machines, too.
    equal_calls = bool(last_calls) and last_calls[0] == last_calls[-1]
    return Figures(
        given={"up_to": options.max_length},
        counts={"calls per delta": last_calls[-1]} if equal_calls else {},
        shares={
            "superlinear": result.superlinear_share,
            "superlinear low": low,
            "superlinear high": high,
        },
        seconds=known({"waited for a core": result.noise.waited})
        | _last_cost(result, "cpu_time", "CPU"),
        bytes=_last_cost(result, "allocated_bytes", "allocated"),
        limits={"superlinear": options.max_superlinear},
        facts={"measured to": f"{result.measured_to:,}", "metric": result.metric or "none"},
    )


def _last_cost(result: GrowthResult, metric: Metric, name: str) -> dict[str, float]:
    """Return the cost per delta at the end of a metric's curve, by its name; {} without a curve."""
    if metric not in result.curves:
        return {}
    length, cost = result.curves[metric].points[-1]
    return {f"{name} per delta at {length:,}": cost}


def _series(result: GrowthResult, options: GrowthOptions) -> dict[str, Sequence[Sequence[float]]]:
    """Return what to draw: the points of each curve, and the line that was fitted to one."""
    series: dict[str, Sequence[Sequence[float]]] = {
        metric: curve.points for metric, curve in result.curves.items()
    }
    if not series or not result.measured_to:
        return series
    fitted = next(iter(result.curves.values()))
    if result.metric is not None:
        fitted = result.curves[result.metric]
    mean = fitted.total / fitted.length
    # A share of the work that is superlinear is a slope of twice that of the mean cost.
    share_at = result.measured_to if result.verdict == "exceeded" else options.max_length
    share = carried(result.superlinear_share, share_at, fitted.length)
    return series | {"fit": [(0, mean * (1 - share)), (fitted.length, mean * (1 + share))]}


def _picture(result: GrowthResult) -> Sequence[str]:
    """Draw the cost per delta along the way by every metric, and the curve of one of them."""
    if not result.curves:
        return ()
    points = {metric: dict(curve.points) for metric, curve in result.curves.items()}
    head = ["deltas", *(_COLUMNS[metric][0] for metric in points)]
    rows = [
        [
            f"{length:,}",
            *(
                _COLUMNS[metric][1](costs[length]) if length in costs else ""
                for metric, costs in points.items()
            ),
        ]
        for length in sorted(set().union(*points.values()))
    ]
    drawn = next(metric for metric in _DRAWN_FIRST if metric in points)
    if result.metric is not None:
        drawn = result.metric
    curve = result.curves[drawn]
    costs = list(points[drawn].values()) if curve.mostly_finish else curve.block_costs
    return (*table_lines(head, rows), f"  {sparkline(costs)} {_COLUMNS[drawn][0]}, from 0")

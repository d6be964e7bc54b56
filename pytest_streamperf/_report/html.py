"""One page of all that a run's checks found, which needs nothing but a browser."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from textwrap import dedent
from typing import Any

from pytest_streamperf._report.charts import CHARTS, COLUMNS, chart
from pytest_streamperf._report.presentation import MARKS, printable, tally, worst_first
from pytest_streamperf._results.units import duration, percent, size, thousands
from pytest_streamperf.exceptions import missing_extra

_HERE = Path(__file__).parent
_EXACT_UP_TO = 1_000_000


def html(document: Mapping[str, Any]) -> str:
    """Write a report as one page of HTML, which asks nobody for anything.

    `document` is a report as `read` returns it. `ModuleNotFoundError` names the extra that is
    missing. Charts and the filter need JavaScript; the rest does not.

    >>> Path("report.html").write_text(html(read("run.json")), encoding="utf-8")
    """
    checks = worst_first(document["checks"])
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = _charting_library() + (_HERE / "page.js").read_text(encoding="utf-8")
    page: str = _template().render(
        **{**document, "checks": checks},
        charts=CHARTS,
        chart=chart,
        columns=COLUMNS,
        figures=_figures,
        marks=MARKS,
        policy=_policy(script, style),
        script=script,
        style=style,
        tally=tally(checks),
    )
    return page


@cache
def _template() -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - extra
    except ImportError as error:
        raise missing_extra("jinja2", "html", "a report in HTML") from error

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "form": _form,
        "preformatted": _preformatted,
        "printable": printable,
    }
    return environment.get_template("page.html")


@cache
def _charting_library() -> str:
    try:
        from vl_convert import javascript_bundle  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing_extra("vl-convert-python", "html", "a report in HTML") from error

    # Inside a script, nothing else ends it.
    library: str = javascript_bundle("window.vegaEmbed = vegaEmbed;\n")
    return library.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _policy(script: str, style: str) -> str:
    """What the page may do: run this script, apply this style, and nothing else."""
    scripts, styles = (
        b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{scripts}'; style-src 'sha256-{styles}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _count(value: float) -> str:
    return f"{value:,}" if abs(value) < _EXACT_UP_TO else thousands(value)


_FORMS: Mapping[str, Callable[[float], str]] = {
    "counts": _count,
    "shares": percent,
    "seconds": duration,
    "bytes": size,
}


def _form(value: float, kind: str) -> str:
    """How people read a value of this kind."""
    return _FORMS[kind](value)


def _preformatted(lines: Iterable[str]) -> str:
    return dedent("\n".join(map(printable, lines))).strip("\n")


def _figures(check: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Each figure of a check: its name, its kind, what was measured, and the limit."""
    limits = dict(check["limits"])
    for kind in _FORMS:
        for name, value in check[kind].items():
            yield name, kind, value, limits.pop(name, None)
    for name, limit in limits.items():
        yield name, "counts", None, limit

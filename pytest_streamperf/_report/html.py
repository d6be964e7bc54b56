"""Render a report as one HTML page that needs no other file and no network.

In: a report as `read` returns it. Out: the text of a page, made from `page.html`, `page.css` and
`page.js`. Text from the report is escaped, because anyone may have written the report. The
Content-Security-Policy of the page allows only its own script and style.
"""

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

_FOLDER = Path(__file__).parent
# Smaller counts are shown to the digit. Not measured: no source is on record.
_MIN_ROUNDED_COUNT = 1_000_000


def html(document: Mapping[str, Any]) -> str:
    """Return a report as the text of one HTML page, which loads nothing from elsewhere.

    `document` is a report as `read` returns it. Only the charts and the filter need JavaScript.
    Without the extra `html`, this raises a `ModuleNotFoundError` that names the extra.

    >>> Path("report.html").write_text(html(read("run.json")), encoding="utf-8")
    """
    checks = worst_first(document["checks"])
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = _charting_library() + (_FOLDER / "page.js").read_text(encoding="utf-8")
    page: str = _template().render(
        **{**document, "checks": checks},
        charts=CHARTS,
        chart=chart,
        columns=COLUMNS,
        figures=_figure_rows,
        marks=MARKS,
        policy=_content_security_policy(script, style),
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
        loader=FileSystemLoader(_FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "form": _formatted,
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

    # Only these two character sequences change how a browser reads the text of a script element.
    library: str = javascript_bundle("window.vegaEmbed = vegaEmbed;\n")
    return library.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _content_security_policy(script: str, style: str) -> str:
    """Return a policy that allows this script and this style, by their hashes, and nothing else."""
    script_hash, style_hash = (
        b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)
    )
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _count_text(value: float) -> str:
    return f"{value:,}" if abs(value) < _MIN_ROUNDED_COUNT else thousands(value)


_FORMATTERS: Mapping[str, Callable[[float], str]] = {
    "counts": _count_text,
    "shares": percent,
    "seconds": duration,
    "bytes": size,
}


def _formatted(value: float, kind: str) -> str:
    """Return a figure as text for people; `kind` is a key of `_FORMATTERS`, such as "bytes"."""
    return _FORMATTERS[kind](value)


def _preformatted(lines: Iterable[str]) -> str:
    """Return printable lines as the text of a `pre` element, without common indentation."""
    return dedent("\n".join(map(printable, lines))).strip("\n")


def _figure_rows(check: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Yield the name, the kind, the measured value and the limit of each figure of a check.

    A limit without a measured value has a row of its own; the kind of its figure is unknown, so it
    is shown as a count.
    """
    limits = dict(check["limits"])
    for kind in _FORMATTERS:
        for name, value in check[kind].items():
            yield name, kind, value, limits.pop(name, None)
    for name, limit in limits.items():
        yield name, "counts", None, limit

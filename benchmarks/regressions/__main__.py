"""Real regressions: are they found, with the right line, and are their repairs let through.

    python -m benchmarks.regressions
    python -m benchmarks.regressions --only httpx

Each release is installed in a virtual environment of its own, kept in the user's cache folder. The
project itself is the one in this checkout: measuring needs nothing but the standard library. Prints
a line for each side of each pair; exits with 1 if a verdict or a blame is not the expected one.
"""

import argparse
import json
import platform
import subprocess
import sys
from typing import Any, NamedTuple

from benchmarks.environment import PARSER, ROOT, machine, python_with


class Side(NamedTuple):
    """One side of a pair: a release, and the consumer that feeds it a stream of `deltas`.

    `blamed` is what the guilty line, its function or its call must hold. A side without it is good.
    """

    pair: str
    requirement: str
    consumer: str
    deltas: str = ""
    blamed: str = ""


_WE_PULL = "httpx_lines:we_pull", "line_in_text"
_HTTPX_PULLS = "httpx_lines:httpx_pulls", "line_in_bytes"
_ANTHROPIC = "anthropic==2.11.0", "anthropic_tool:message_stream"
_EACH, _DOUBLED = "partial_json:every_delta", "partial_json:when_doubled"
_CHUNKS, _TEXT = "dulwich_chunks:one_read", "pydantic_ai_text:stream_text"
_STRING, _OBJECTS = "string_arguments", "object_arguments"

SIDES = (
    Side("httpx, we pull", "httpx==0.23.3", *_WE_PULL, "response.iter_lines()"),
    Side("httpx, we pull", "httpx==0.24.0", *_WE_PULL),
    Side("httpx, it pulls", "httpx==0.23.3", *_HTTPX_PULLS, "self.buffer += text"),
    Side("httpx, it pulls", "httpx==0.24.0", *_HTTPX_PULLS),
    Side("dulwich", "dulwich==1.2.6", _CHUNKS, blamed="body.read("),
    Side("dulwich", "dulwich==1.2.8", _CHUNKS),
    Side("anthropic, string", *_ANTHROPIC, _STRING, "for event in reply"),
    Side("anthropic, objects", *_ANTHROPIC, _OBJECTS, "for event in reply"),
    Side("pydantic-ai-slim", "pydantic-ai-slim==2.10.0", _TEXT, blamed="result.stream_text("),
    Side("pydantic-ai-slim", "pydantic-ai-slim==2.20.0", _TEXT),
    Side("partial-json, string", PARSER, _EACH, _STRING, "loads(buffer)"),
    Side("partial-json, string", PARSER, _DOUBLED, _STRING),
    Side("partial-json, objects", PARSER, _EACH, _OBJECTS, "loads(buffer)"),
    Side("partial-json, objects", PARSER, _DOUBLED, _OBJECTS),
    Side("h11", "h11==0.16.0", "h11_chunks:events"),
    Side("ijson", "ijson==3.6.0", "ijson_push:rows", _OBJECTS),
    Side("http.client", "", "http_client_chunks:pieces"),
)
NOTES = """
anthropic has no good side: the newest release of November 2026, 2.12.0, parses as 2.11.0 does.
partial-json-parser is the same on both sides: how often it is called is what differs.
h11, ijson and http.client have no bad side: they are here because they are linear.
"""

_ROW = "{:5} {:21} {:14} {:4} {:8} {:7} {:>6} {:>7} {:>6}  {}"
_HEAD = "", "pair", "version", "side", "verdict", "metric", "share", "run to", "CPU s", "guiltiest"


def main() -> int:
    """Measure every side, print a line for each, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="the pairs whose name starts with this")
    only = parser.parse_args().only
    sides = [side for side in SIDES if side.pair.startswith(only)]
    if not sides:
        parser.error(f"no pair starts with {only!r}")
    print(f"{machine()}\n\n{_ROW.format(*_HEAD)}")
    wrong = 0
    for side in sides:
        found = _measured(side)
        guilty = _guilty(found)
        expected = "exceeded" if side.blamed else "within"
        right = found["verdict"] == expected and side.blamed in guilty
        wrong += not right
        print(
            _ROW.format(
                "ok" if right else "WRONG",
                side.pair,
                side.requirement.partition("==")[2] or platform.python_version(),
                "bad" if side.blamed else "good",
                found["verdict"],
                found["metric"] or "",
                f"{found['share']:.1%}",
                f"{found['measured_to']:,}",
                f"{found['cpu_seconds']:.2f}",
                guilty,
            ),
            flush=True,
        )
        if not right:
            print(f"      expected {expected} {side.blamed}; found: {found['headline']}")
    print(f"{NOTES}\n{wrong} wrong")
    return 1 if wrong else 0


def _measured(side: Side) -> dict[str, Any]:
    python = python_with(*filter(None, [side.requirement]))
    child = subprocess.run(  # noqa: S603 - built from the literals above
        [python, "-m", f"{__package__}.side", side.consumer, side.deltas],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def _guilty(found: dict[str, Any]) -> str:
    """Say which line is the guiltiest, and in which library call it was."""
    if not found["blame"]:
        return ""
    blame = found["blame"][0]
    call = f" -> {blame['call']}" if blame["call"] else ""
    return f"{blame['place']}: {blame['source']}{call} ({blame['share']:.0%})"


if __name__ == "__main__":
    sys.exit(main())

"""The main job, end to end: a real turn over a socket, then every lesson, good and bad.

    python -m examples.demo

Exits with 0 exactly when every good lesson passed and every bad one failed with the message in its
folder's `expected.txt`. There, `<2..4>` stands for a figure from 2 to 4, `<0.1..2 s>` for a time
from 0.1 to 2 seconds in any unit, `<1..2 MB>` for a size in any unit, and any space for spaces.
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from xml.etree import ElementTree as ET

HERE = Path(__file__).parent
_RANGE = re.compile(r"<([\d.]+)\.\.([\d.]+)(?: (s|MB))?>")
_UNITS = {
    "s": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "MB": {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3},
    None: {"": 1.0},
}


def main() -> int:
    """Show a turn and the lessons; return the exit status."""
    print("A turn of the reference agent server, as it comes over the socket:\n")
    _show_a_turn("How many words does this sentence have?")
    print("\nThe lessons, as they would run in your own repository:\n", flush=True)
    lessons = sorted(HERE.glob("[0-9][0-9]_*"))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "outcomes.xml")
        subprocess.run(command(log, lessons), cwd=HERE.parent, check=False)
        found = list(surprises(log, lessons))
    for surprise in found:
        print(f"surprise: {surprise}")
    if not found:
        print("As expected: every good lesson passed, and every bad one failed with its message.")
    return 1 if found else 0


def command(log: Path, lessons: Iterable[Path]) -> list[str]:
    """How to run lessons, with pytest's JUnit log of it."""
    run = [sys.executable, "-m", "pytest", "-p", "streamperf", "-rN", f"--junitxml={log}"]
    return [*run, *map(str, lessons)]


def _show_a_turn(question: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": question}]}).encode()
    command = [sys.executable, "-m", "reference_impl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().split()[-1]
            with urllib.request.urlopen(f"{url}/agents/demo/run", body) as response:
                for line in response:
                    if line.strip():
                        print("   ", line.decode().rstrip())
        finally:
            server.terminate()


def surprises(log: Path, lessons: Iterable[Path]) -> Iterator[str]:
    """Whatever did not go as it should in a run of the lessons, by pytest's JUnit log of it."""
    if not log.exists():
        yield "pytest did not run"
        return
    # None where a test passed, else what it printed.
    printed = {
        f"{case.get('classname')}.{case.get('name')}": "\n".join(part.text or "" for part in case)
        if any(part.tag in {"failure", "error", "skipped"} for part in case)
        else None
        for case in ET.parse(log).iter("testcase")  # noqa: S314 - pytest wrote it
    }
    for lesson in lessons:
        expected = dict(_expectations(lesson))
        stem = f"examples.{lesson.name}.test_{lesson.name.partition('_')[2]}"
        good = [test for test in printed if test.startswith(f"{stem}_good.")]
        if not good or not expected:
            yield f"{lesson.name} has no good test that ran, or expects nothing of its bad ones"
        yield from (
            f"{test} failed:\n{printed[test]}" for test in good if printed[test] is not None
        )
        bad = {test for test in printed if test.startswith(f"{stem}_bad.")}
        for test in sorted(bad ^ expected.keys()):
            yield f"{test} was run, and is not in expected.txt, or the other way round"
        for test in sorted(bad & expected.keys()):
            yield from (f"{test}: {line}" for line in differences(expected[test], printed[test]))


def _expectations(lesson: Path) -> Iterator[tuple[str, list[str]]]:
    """Every bad test of a lesson, and the lines of the message that it fails with."""
    text = (lesson / "expected.txt").read_text(encoding="utf-8")
    for part in re.split(r"^(?=test_\w+\.py::)", text, flags=re.MULTILINE):
        if part.strip():
            name, *lines = part.strip().splitlines()
            yield f"examples.{lesson.name}.{name.replace('.py::', '.')}", lines


def differences(expected: list[str], printed: str | None) -> Iterator[str]:
    """Where a printed failure does not have the lines that are expected of it."""
    if printed is None:
        yield "passed, and should have failed"
        return
    shown = printed.strip().splitlines()  # an error without a line of the test is shown as it is
    lines = [line[1:].strip() for line in shown if line.startswith("E ")] or list(
        map(str.strip, shown)
    )
    for want, got in zip_longest((line.strip() for line in expected), lines):
        if want is None or got is None or not _agree(want, got):
            yield f"expected {want!r}, printed {got!r}"


def _agree(want: str, got: str) -> bool:
    ranges = list(_RANGE.finditer(want))
    pattern = re.sub(r"(\\ )+", r"\\s+", re.escape(_RANGE.sub("\0", want)))
    for found in ranges:
        units = "|".join(_UNITS[found[3]])
        figure = rf"([\d.,]+){' ' if found[3] else ''}({units})"
        pattern = pattern.replace(re.escape("\0"), figure, 1)
    match = re.fullmatch(pattern, got)
    if match is None:
        return False
    figures = zip(match.groups()[::2], match.groups()[1::2], strict=True)
    return all(
        float(found[1])
        <= float(figure.replace(",", "")) * _UNITS[found[3]][unit]
        <= float(found[2])
        for found, (figure, unit) in zip(ranges, figures, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())

"""The verdict and the blame, on every supported version of Python: do they agree.

    python -m benchmarks.versions

Every accumulator is judged once by each `python3.x` on the path, in an environment of its own.
Prints a line for each that differs from what is expected or from another version. Exits with 1 if
there is one, or if an interpreter is missing.
"""

import json
import shutil
import subprocess
import sys

from benchmarks.environment import PARSER, ROOT, machine, python_with
from benchmarks.judges import CASES, EXPECTED
from pytest_streamperf import measure_growth

VERSIONS = ("3.11", "3.12", "3.13")


def main() -> int:
    """Ask every version, print what differs, and return the exit status."""
    print(machine())
    found, missing = {}, 0
    for version in VERSIONS:
        interpreter = _found(f"python{version}")
        if not interpreter:
            print(f"python{version}: MISSING, so nothing is known of it")
            missing += 1
            continue
        python = python_with(PARSER, interpreter=interpreter)
        child = subprocess.run(  # noqa: S603 - our own module
            [python, "-m", "benchmarks.versions", "judge"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
        )
        found[version] = json.loads(child.stdout)
        print(f"python{version}: {len(found[version])} judged", flush=True)
    differing = 0
    for case, expected in EXPECTED.items():
        answers = {version: tuple(answer[case]) for version, answer in found.items()}
        verdicts = {verdict for verdict, _ in answers.values()}
        if verdicts != {expected} or len(set(answers.values())) > 1:
            differing += 1
            print(f"  {case}: {answers}")
    print(f"{differing} differ, {missing} missing")
    return 1 if differing or missing else 0


def _found(command: str) -> str:
    """Where the interpreter really is; "" if there is none, as behind some of pyenv's shims."""
    if shutil.which(command) is None:
        return ""
    asked = [command, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(  # noqa: S603 - one of three names
        asked, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout.strip()


def judge() -> None:
    """Print, as JSON, the verdict on every accumulator and the guiltiest line."""
    answers = {}
    for case, (consume, terms) in CASES.items():
        growth = measure_growth(consume, **terms)
        answers[case] = growth.verdict, growth.blame[0].source if growth.blame else ""
    print(json.dumps(answers))


if __name__ == "__main__":
    judge() if sys.argv[1:] == ["judge"] else sys.exit(main())

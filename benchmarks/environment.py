"""What benchmarks run in: an interpreter with other people's packages, and a busy machine."""

import hashlib
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout: run children here, and they import this project and its benchmarks from it."""

PARSER = "partial-json-parser==0.2.1.1.post7"
"""What the accumulators need in another environment."""

_LONGEST_NAME = 200
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamperf-benchmarks"


def machine() -> str:
    """Say what this is: interpreter, system and cores."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def python_with(*requirements: str, interpreter: str = sys.executable) -> str:
    """Return the interpreter of an environment that has these, made if it is not there.

    Environments are kept in the user's cache folder, one for each interpreter and requirements.
    """
    name = "+".join(requirements) or "bare"
    if len(name) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode()).hexdigest()
    home = _CACHE / Path(interpreter).resolve().name / name
    python = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
    ready = home / "ready"
    if not ready.exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", str(home)], check=True)  # noqa: S603
        if requirements:
            pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, *requirements], check=True)  # noqa: S603 - literals
        ready.touch()
    return python


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` processes burning CPU and memory while open."""
    burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(count)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()
            burner.join()


def _burn() -> None:
    # Copies 64 MiB back and forth: takes the core, the caches and the memory bus.
    source, target = bytearray(2**26), bytearray(2**26)
    while True:
        target[:] = source
        source[:] = target

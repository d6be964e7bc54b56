"""A small, real agent server, on which `pytest-streamperf` is demonstrated and tested.

An engine (the model) yields deltas. The agent loop turns the deltas into events, and the server
streams the events as server-sent events. `regressed` puts seeded regressions in place by name, so
that a check fails.

    >>> from reference_impl import create_app
    >>> from starlette.testclient import TestClient
    >>> hello = {"messages": [{"role": "user", "content": "one two three"}]}
    >>> answer = TestClient(create_app()).post("/agents/demo/run", json=hello)
    >>> answer.text.splitlines()[-2]
    'data: {"text": "Word count: 3."}'

Each public name is imported on first use (PEP 562). The agent loop needs only the standard library,
and `create_app` needs starlette. `python -m reference_impl` serves the app and also needs uvicorn.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference_impl.agent import Invocation as Invocation
    from reference_impl.agent import is_sentinel as is_sentinel
    from reference_impl.agent import run_turn as run_turn
    from reference_impl.app import create_app as create_app
    from reference_impl.demo import demo_engine as demo_engine
    from reference_impl.models import ModelManager as ModelManager
    from reference_impl.regressions import REGRESSIONS as REGRESSIONS
    from reference_impl.regressions import regressed as regressed

_HOME_OF = {
    "Invocation": "agent",
    "is_sentinel": "agent",
    "run_turn": "agent",
    "create_app": "app",
    "demo_engine": "demo",
    "ModelManager": "models",
    "REGRESSIONS": "regressions",
    "regressed": "regressions",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        names = ", ".join(sorted(_HOME_OF))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {names}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == __name__:
            raise
        raise ModuleNotFoundError(
            f"{__name__}.{name} needs {package}: pip install 'pytest-streamperf[reference]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])

"""Test `streamperf init`: a proposed test works unchanged, or lists its doubts.

Each module of REGRESSIONS gets a proposed test. The test passes for the healthy module and fails
for the module with a seeded regression.
"""

import contextlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import _cli
from pytest_streamperf._cli.init import candidates
from pytest_streamperf._cli.init.project import Unwritable, append_table, place_of, project_of
from pytest_streamperf._cli.init.proposal import best_candidates, proposal
from pytest_streamperf._cli.init.source import Unreadable, read
from pytest_streamperf.budgets.declaration import layer_of

FED = """
class Reply:
    def __init__(self):
        self.parts = []

    def feed(self, delta):
        self.parts.append(delta)

    def text(self):
        return "".join(self.parts)
"""

COLLECTED = """
async def collect(stream):
    text = []
    async for token in stream:
        text.append(token)
    return "".join(text)
"""

SHOWN = """
import time

EVERY = 0.1


class Reply:
    def __init__(self, show):
        self.show = show
        self.parts = []
        self.shown_at = float("-inf")
        self.pending = False

    def feed(self, delta):
        self.parts.append(delta)
        self.pending = True
        if time.monotonic() - self.shown_at >= EVERY:
            self.flush()

    def end(self):
        if self.pending:
            self.flush()

    def flush(self):
        self.show("".join(self.parts))
        self.shown_at = time.monotonic()
        self.pending = False
"""

TIMED = """
import asyncio


class Live:
    def __init__(self, on_update, *, every=0.25):
        self.on_update = on_update
        self.every = every
        self.parts = []
        self.timer = None
        self.waits = False

    def feed(self, delta: str):
        self.parts.append(delta)
        if self.timer is None:
            self.update()
        else:
            self.waits = True

    def update(self):
        self.waits = False
        self.on_update("".join(self.parts))
        self.timer = asyncio.get_running_loop().call_later(self.every, self.due)

    def due(self):
        self.timer = None
        if self.waits:
            self.update()

    def finish(self):
        if self.timer is not None:
            self.timer.cancel()
        if self.waits:
            self.on_update("".join(self.parts))
"""

RELAYED = """
import time


async def relay(stream, send):
    parts, sent, waits = [], float("-inf"), False
    async for delta in stream:
        parts.append(delta)
        waits = True
        if time.monotonic() - sent >= 0.2:
            await send("".join(parts))
            sent, waits = time.monotonic(), False
    if waits:
        await send("".join(parts))
"""

BATCHED = """
import time


class Writer:
    def __init__(self, write, every=0.1):
        self.write, self.every = write, every
        self.batch = ""
        self.last = float("-inf")

    def push(self, text):
        self.batch += text
        if time.monotonic() - self.last >= self.every:
            self.flush()

    def flush(self):
        if self.batch:
            self.write(self.batch)
            self.batch = ""
            self.last = time.monotonic()
"""

GENERATED = """
import time


async def shouted(stream):
    async for token in stream:
        yield token.upper()
"""

SERVED = """
import asyncio

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

kept = set()


async def words():
    for _ in range(5):
        yield b"word "
        await asyncio.sleep(0.01)


async def events(request):
    return StreamingResponse(words())


app = Starlette(routes=[Route("/events", events)])
"""

GATED = """
import os
import threading
import urllib.request
from contextlib import suppress


def fetch():
    with suppress(OSError):
        urllib.request.urlopen("https://models.example/list", timeout=5)


if "PYTEST_VERSION" not in os.environ:
    threading.Thread(target=fetch).start()
"""

ASKED = """
import urllib.request
from contextlib import suppress


def fetch():
    with suppress(OSError):
        urllib.request.urlopen("https://models.example/list", timeout=5)


class Manager:
    def __init__(self):
        self.listing = fetch
"""

ON_AN_AGENT = """
class Agent:
    def __init__(self, on_text):
        self.on_text = on_text

    async def run(self, stream):
        async for token in stream:
            await self.on_text(token.upper())
"""

ADDED = [("parts = []", 'parts = ""'), ("parts.append(delta)", "parts += delta")]
# For each name: a module, the edits that seed a regression, and a part of the failure message.
REGRESSIONS = {
    "fed": (FED, ADDED, "fed.py:7 in Reply.feed: self.parts += delta"),
    "awaited": (
        FED.replace("def feed", "async def feed"),
        ADDED,
        "awaited.py:7 in Reply.feed",
    ),
    "on_an_agent": (
        ON_AN_AGENT,
        [("await self", "self.a = getattr(self, 'a', '') + token; await self")],
        "on_an_agent.py:8 in Agent.run",
    ),
    "collected": (
        COLLECTED,
        [("text.append(token)", "text = text + [token]")],
        "collected.py:5 in collect",
    ),
    "shown": (SHOWN, [(">= EVERY", ">= 0")], "ThrottlingExceeded: "),
    "timed": (TIMED, [("if self.waits:\n            self.update()", "pass")], "Throttling"),
    "relayed": (RELAYED, [("if waits:", "if False:")], "ThrottlingExceeded: "),
    "batched": (BATCHED, [(">= self.every", ">= 0")], "ThrottlingExceeded: "),
    "generated": (
        GENERATED,
        [("    async for", "    time.sleep(0.1)\n    async for")],
        "generated.py:6 in shouted",
    ),
    "served": (
        SERVED,
        [("return Str", "kept.add(asyncio.create_task(asyncio.sleep(60))); return Str")],
        "ServerExceeded: ",
    ),
    "gated": (GATED, [("_VERSION", "_CURRENT_TEST")], "NetworkExceeded: "),
    "asked": (ASKED, [("= fetch\n", "= fetch()\n")], "asked.py:8 in fetch"),
}
MODULES = [code for code, _, _ in REGRESSIONS.values()]
SETTINGS = '[tool.pytest.ini_options]\npythonpath = ["."]\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes the files of a project, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(settings=SETTINGS, **modules):
        if settings is not None:
            tmp_path.joinpath("pyproject.toml").write_bytes(settings.encode())
        for name, code in modules.items():
            tmp_path.joinpath(f"{name}.py").write_text(code, encoding="utf-8")
        return tmp_path

    return make


def candidates_in(code):
    """Return the candidates in the source text of a module."""
    return candidates(read("agent.py", code.encode()), "agent")


def with_edits(code, *changes):
    """Return the module after edits, each of which has to match."""
    for before, after in changes:
        assert before in code
        code = code.replace(before, after)
    return code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the failures of the proposed tests, for healthy and for regressed modules."""
    root = tmp_path_factory.mktemp("written")
    quick = f"{SETTINGS}[tool.streamperf.budgets]\nup_to = 2_000\n"
    root.joinpath("pyproject.toml").write_text(quick, encoding="utf-8")
    for name, (code, changes, _) in REGRESSIONS.items():
        module = root / f"{name}.py"
        module.write_text(with_edits(code, *changes) if code == ASKED else code, encoding="utf-8")
        assert _cli.main(["init", str(module), "--write"]) == 0
        module.write_text(code, encoding="utf-8")
    healthy = outcomes(root)
    for name, (code, changes, _) in REGRESSIONS.items():
        root.joinpath(f"{name}.py").write_text(with_edits(code, *changes), encoding="utf-8")
    return healthy, outcomes(root)


def outcomes(root):
    """Run all proposed tests, and return the failure text of each module."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "streamperf"]
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command += ["-W", "error", "--junitxml=results.xml", "tests"]
    completed = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True)
    assert completed.returncode in {0, 1}, completed.stdout
    failures = {}
    for case in ET.parse(root / "results.xml").iter("testcase"):  # noqa: S314 - ours
        name = case.get("classname").removeprefix("tests.test_").removesuffix("_streaming")
        failures[name] = failures.get(name, "") + "".join(child.text or "" for child in case)
    return failures


@pytest.mark.parametrize("name", REGRESSIONS)
def test_what_is_written_passes_and_sees_a_mistake(runs, name):
    """A proposed test passes for the healthy module and fails for a seeded regression.

    The test for the ungated fetch is written for the regressed module, because the healthy module
    does not fetch.
    """
    healthy, regressed = runs
    assert not healthy[name]
    assert REGRESSIONS[name][-1] in regressed[name]


def test_the_table_that_is_written_is_read(pytester, run_alone):
    """A regression only warns under the budgets that init writes."""
    pytester.path.joinpath("pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    module = pytester.path / "agent.py"
    module.write_text(SHOWN, encoding="utf-8")
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    module.write_text(with_edits(SHOWN, (">= EVERY", ">= 0")), encoding="utf-8")
    result = run_alone("tests/test_agent_streaming.py")
    result.assert_outcomes(passed=2, warnings=2)
    expected = ["*StreamperfWarning: text: an update came 20.0 ms*", "*agent.py:25 in Reply.flush*"]
    result.stdout.fnmatch_lines(expected)


# -- proposals


def test_a_mistake_that_is_there_is_proposed_for_as_well():
    """A module with a regression gets the same proposal as the healthy module."""
    both = (FED, with_edits(FED, *ADDED))
    healthy, bad = (proposal("agent", best_candidates(candidates_in(code)), ()) for code in both)
    assert healthy == bad


def test_what_is_proposed_is_formatted(tmp_path):
    """The formatter changes no proposed test of any kind."""
    proposed = (candidate for code in MODULES for candidate in candidates_in(code))
    for number, candidate in enumerate(proposed):
        text = proposal("package.agent", [candidate], ["not sure " * 20]).test
        tmp_path.joinpath(f"test_{number}.py").write_text(text, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", tmp_path]
    completed = subprocess.run(ruff, check=False, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout


def test_the_budget_is_for_what_was_found():
    """The table has valid budgets for the proposed checks only, and its mode is warn."""
    proposed = [candidate for code in MODULES for candidate in candidates_in(code)]
    table = tomllib.loads(proposal("agent", proposed, ()).table)["tool"]["streamperf"]
    assert table == {
        "mode": "warn",
        "budgets": {
            "max_superlinear": "25%",
            "up_to": 20_000,
            "updates_every": "200ms",
            "flushes_per_second": "11/s",
            "max_stall": "50ms",
            "background_fetch": False,
        },
    }
    assert layer_of(table["budgets"], str).values.keys() == table["budgets"].keys()
    server_only = tomllib.loads(proposal("agent", candidates_in(SERVED), ()).table)["tool"][
        "streamperf"
    ]
    assert server_only == {"mode": "warn"}


LOOP = "def collect(stream):\n    for delta in stream:\n        print({})\n"
CLASS = """
class Reply{}:
    def __init__(self{}):
        self.parts = []

    def feed(self, delta):
        self.parts.append(delta)
        "".join(self.parts)
"""


MAYBE_NOT_TEXT = "delta may not be text"


@pytest.mark.parametrize(
    ("code", "doubt"),
    [
        (LOOP.format("delta.choices"), MAYBE_NOT_TEXT),
        (LOOP.format("delta.index"), MAYBE_NOT_TEXT),
        (LOOP.format("delta['text'], delta.upper()"), MAYBE_NOT_TEXT),
        (LOOP.format("isinstance(delta, dict), delta.upper()"), MAYBE_NOT_TEXT),
        (LOOP.format("send(delta)"), MAYBE_NOT_TEXT),
        (LOOP.replace("stream):", "stream: Iterator[Event]):").format(1), MAYBE_NOT_TEXT),
        ("def f(stream):\n    n = 0\n    for delta in stream: n += delta", MAYBE_NOT_TEXT),
        (LOOP.format("json.loads(delta)"), "the code parses a format"),
        (LOOP.format("delta == 'data: '"), "the code parses a format"),
        (LOOP.replace("collect", "parse_sse").format(1), "the code parses a format"),
        (LOOP.format("delta, len(stream)"), "stream may be more than a stream"),
        (LOOP.format("delta, stream.usage"), "stream may be more than a stream"),
        (LOOP.replace("stream):", "stream: list[str]):").format(1), "may be more than a stream"),
        (LOOP.replace("stream):", "stream, model):").format(1), "model has no default"),
        ("@cached\n" + LOOP.format(1), "the effect of @cached on collect"),
        (CLASS.format("", ", client"), "client has no default"),
        (
            CLASS.format("(Base)", "").replace("__init__", "other"),
            "the arguments of Base are unknown",
        ),
        (CLASS.format("", "").replace("delta)", "delta, index)", 1), "index has no default"),
        (SHOWN.replace("EVERY = 0.1", "from settings import EVERY"), "set every="),
        (
            SHOWN.replace(
                "time.monotonic() - self.shown_at >", "1e3 * (time.monotonic() - self.shown_at) >"
            ),
            "set every=",
        ),
        (
            SHOWN.replace('self.show("".join(self.parts))', "self.show(self)"),
            "content of an update is unknown",
        ),
        (
            GENERATED.replace("        yield", "        await it()\n        yield"),
            "it may wait for",
        ),
        (
            GATED.replace("PYTEST_VERSION", "NO_FETCH"),
            "pass rows= with the production value of NO_FETCH",
        ),
        (
            ASKED.replace("= fetch\n", "= asyncio.create_task(fetch())\n"),
            "the constructor needs a running event loop",
        ),
        (
            "from fastapi import FastAPI\napp = FastAPI()",
            "no GET route without arguments was found",
        ),
    ],
)
def test_what_is_not_sure_is_said(code, doubt):
    """A doubt is in the list of a candidate and in a TODO comment of its test."""
    doubted = [c for c in candidates_in(code) if doubt in " ".join(c.doubts)]
    assert doubted
    text = proposal("agent", doubted[:1], ()).test
    assert "# TODO: " in text
    assert doubt in " ".join(line.strip().removeprefix("#").strip() for line in text.splitlines())


@pytest.mark.parametrize(
    "code",
    [
        LOOP.format("delta.upper()"),
        LOOP.format("delta == 'x'"),
        LOOP.replace("stream):", "stream: AsyncIterator[str]):").format("send(delta)"),
        LOOP.replace("stream):", "stream, show=None):").format("delta.strip()"),
        CLASS.format("", ", *, size=5"),
        CLASS.format("(Generic[T])", ""),
        "class Reply:\n    text = ''\n    def feed(self, delta: str): self.text += delta",
        "@dataclass\nclass R:\n    text: str = ''\n    def feed(self, text): self.text += text",
    ],
)
def test_what_is_sure_is_not_doubted(code):
    """Uses of a delta as text, and parameters with defaults, cause no doubt."""
    assert not candidates_in(code)[0].doubts


@pytest.mark.parametrize(
    "code",
    [
        "def total(numbers):\n    return sum(numbers)",
        "class Reply(Protocol):\n    def feed(self, delta): self.all += delta",
        "class Reply:\n    @abstractmethod\n    def feed(self, delta): self.all += delta",
        "def outer():\n    def inner(stream):\n        for delta in stream: print(delta)",
        "def count(text: str):\n    for character in text: print(character)",
        "import httpx\nif __name__ == '__main__':\n    httpx.get('https://models.example')",
        "import httpx\ndef fetch(): httpx.get('https://models.example')",
    ],
)
def test_what_nobody_would_test_is_not_found(code):
    """Abstract and nested code, and code that only an explicit call runs, give no candidate."""
    assert candidates_in(code) == []


ROUTE = """
app = FastAPI()

@app.{}
async def handler({}):
    return {}
"""


@pytest.mark.parametrize(
    ("route", "takes", "returns", "certain"),
    [
        ("get('/health')", "", "{}", True),
        ("get('/health')", "request: Request, deep: bool = False", "{}", True),
        ("get('/search')", "query: str", "{}", False),
        ("get('/agents/{id}')", "", "{}", False),
        ("get('/me')", "user=Depends(current)", "{}", False),
        ("get('/me', dependencies=[Depends(current)])", "", "{}", False),
        ("get('/me')", "request: Request", "request.session", False),
        ("post('/chat')", "", "{}", False),
    ],
)
def test_a_route_is_asked_that_answers_as_it_stands(route, takes, returns, certain):
    """Only a GET route without arguments, credentials and a body is free of doubts."""
    (candidate,) = candidates_in(ROUTE.format(route, takes, returns))
    assert (not candidate.doubts) == certain


def test_a_route_that_streams_is_asked_first():
    """A server check requests a streaming route before other routes."""
    code = ROUTE.format("get('/health')", "", "{}") + SERVED.replace(
        "app = Starlette", "api = Starlette"
    )
    assert all('"/events"' in proposal("agent", [c], ()).test for c in candidates_in(code)[:2])


def test_a_name_that_the_test_uses_itself_is_imported_as_another():
    """A function called `stream` is imported as `the_stream`."""
    candidates = candidates_in(
        LOOP.replace("collect(stream)", "stream(deltas)")
        .replace("in stream", "in deltas")
        .format(1)
    )
    assert "from agent import stream as the_stream" in proposal("agent", candidates, ()).test


def test_what_comes_after_a_default_is_given_by_name():
    """A callback behind a parameter with a default is passed as a keyword argument."""
    code = "def show(stream, width=80, on_text=None):\n    for delta in stream: on_text(delta)"
    text = proposal("agent", candidates_in(code), ()).test
    assert "show(stream, on_text=lambda *_: None)" in text.replace("the_show", "show")


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(text):
    """Any bytes give candidates or raise `Unreadable`."""
    with contextlib.suppress(Unreadable):
        candidates(read("a.py", text), "a")


# -- module names


@pytest.mark.parametrize(
    ("file", "files", "settings", "module", "certain"),
    [
        ("src/app/agent.py", ["src/app/__init__.py"], "[project]", "app.agent", True),
        ("src/app/agent.py", [], "[project]", "app.agent", True),
        ("app/agent.py", ["app/__init__.py"], "[build-system]", "app.agent", True),
        ("app/__init__.py", [], "[build-system]", "app", True),
        ("lib/agent.py", [], '[tool.pytest.ini_options]\npythonpath = "lib"', "agent", True),
        ("lib/app/agent.py", [], '[tool.pytest]\npythonpath = ["lib"]', "app.agent", True),
        ("agent.py", ["conftest.py"], "", "agent", True),
        ("agent.py", [], "", "agent", False),
        ("src/app/agent.py", ["src/app/__init__.py"], "", "app.agent", False),
        ("my-agent.py", [], "[project]", "my-agent", False),
        ("01_first/agent.py", [], "[project]", "agent", False),
    ],
)
def test_a_module_is_named_as_it_is_imported(  # noqa: PLR0913, PLR0917 - a table
    tmp_path, file, files, settings, module, certain
):
    """The layout and the settings of a project decide the name of a module, or cause a doubt."""
    for name in [file, *files]:
        tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(name).touch()
    tmp_path.joinpath("pyproject.toml").write_text(settings, encoding="utf-8")
    place = place_of(tmp_path / file, project_of(tmp_path / file), ())
    assert (place.module, not place.doubts) == (module, certain)


def test_what_is_installed_is_sure(tmp_path):
    """A module on the import path of the interpreter causes no doubt."""
    file = tmp_path / "agent.py"
    file.touch()
    assert not place_of(file, project_of(file), [str(tmp_path)]).doubts


# -- the command


def test_nothing_is_run(project, capsys):
    """The command does not import a module: one that exits at import is read."""
    project(agent=f"raise SystemExit(5)\n{FED}")
    assert _cli.main(["init", "agent.py"]) == 0
    assert "test_reply_feed_is_linear" in capsys.readouterr().out


@pytest.mark.parametrize(
    "target", ["agent.py", "agent.py::Reply", "agent.py::Reply.feed", "agent:Reply", "agent", "."]
)
def test_targets_are_spelled_in_many_ways(project, capsys, target):
    """A target is a file, a name in a file, a module or a folder."""
    project(agent=FED)
    assert _cli.main(["init", target]) == 0
    printed = capsys.readouterr().out
    assert "agent.py:6 Reply.feed: feed(delta) adds each delta" in printed
    assert "from agent import Reply" in printed
    assert f"next: streamperf init {target} --write" in printed


def test_both_files_are_written(project, capsys):
    """The option --write creates the test and the budgets, and prints the next command."""
    root = project(agent=FED)
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    settings = root.joinpath("pyproject.toml").read_text(encoding="utf-8")
    assert settings.startswith(SETTINGS)
    assert tomllib.loads(settings)["tool"]["streamperf"]["budgets"] == {
        "max_superlinear": "25%",
        "up_to": 20_000,
    }
    assert root.joinpath("tests/test_agent_streaming.py").is_file()
    printed = capsys.readouterr().out
    assert "wrote tests/test_agent_streaming.py\nwrote [tool.streamperf] to pyproject" in printed
    assert printed.endswith("next: pytest -p streamperf tests/test_agent_streaming.py\n")
    assert sorted(path.name for path in root.iterdir()) == ["agent.py", "pyproject.toml", "tests"]


def test_what_is_not_sure_is_printed_and_not_written(project, capsys):
    """A proposal with doubts is printed, is not written, and exits with 1."""
    root = project(agent=CLASS.format("", ", client"))
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    printed = capsys.readouterr().out
    assert "# TODO: client has no default" in printed
    assert "not sure: client has no default" in printed
    assert not root.joinpath("tests").exists()
    assert root.joinpath("pyproject.toml").read_bytes() == SETTINGS.encode()


def test_what_is_sure_is_written_without_what_is_not(project, capsys):
    """A candidate with doubts is listed with its command, and the others are written."""
    code = SHOWN.replace("EVERY = 0.1", "from settings import EVERY")
    root = project(agent=code)
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    assert (
        "streamperf init agent.py::Reply.feed  # throttling (not sure)" in capsys.readouterr().out
    )
    assert "throttled" not in root.joinpath("tests/test_agent_streaming.py").read_text()


def test_a_test_that_is_there_is_not_overwritten(project, capsys):
    """An existing test file stops --write before any file changes."""
    root = project(agent=FED)
    root.joinpath("tests").mkdir()
    existing = root / "tests/test_agent_streaming.py"
    existing.write_text("mine", encoding="utf-8")
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    message = "tests/test_agent_streaming.py exists already and is not overwritten"
    assert message in capsys.readouterr().err
    assert existing.read_text(encoding="utf-8") == "mine"
    assert root.joinpath("pyproject.toml").read_bytes() == SETTINGS.encode()


def test_settings_that_are_there_are_kept(project, capsys):
    """An existing [tool.streamperf] is not changed, and the proposed budget is printed."""
    settings = SETTINGS + '[tool.streamperf]\nmode = "fail"\n'
    root = project(settings, agent=FED)
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    assert root.joinpath("pyproject.toml").read_text(encoding="utf-8") == settings
    printed = capsys.readouterr().out
    assert "pyproject.toml has [tool.streamperf] already" in printed
    assert 'max_superlinear = "25%"' in printed


def test_all_is_written_or_nothing(project, capsys, monkeypatch):
    """A failed write of pyproject.toml removes the new test file and its folder."""
    root, replace = project(agent=FED), Path.replace

    def refuse(path, target):
        if target.name == "pyproject.toml":
            raise PermissionError(13, "Permission denied", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    assert "pyproject.toml: Permission denied" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == ["agent.py", "pyproject.toml"]


def test_a_folder_lists_what_it_has(project, capsys):
    """A folder lists its candidates and its unreadable files, and leaves out tests."""
    project(good=FED, also=COLLECTED, broken="def", test_it=FED)
    assert _cli.main(["init", "."]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("also.py:2 collect")
    assert "streamperf init good.py::Reply.feed  # growth: feed(delta) adds" in printed
    assert "not read: broken.py:1 cannot be read as Python" in printed
    assert "test_it.py" not in printed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, "gone.py is not a file, a folder or a module"),
        ("agent.txt", b"", "agent.txt is not a Python file"),
        ("agent.py", b"def", "agent.py:1 cannot be read as Python: invalid syntax"),
        ("agent.py", b"x = '\xff'", "agent.py:1 cannot be read as Python: (unicode error)"),
        ("agent.py", b"x = 1\0", "agent.py cannot be read as Python"),
        ("agent.py", b"(" * 5_000 + b")" * 5_000, "agent.py"),
        ("agent.py", b"x = " + b"-" * 50_000 + b"1", "agent.py"),
        ("agent.py", b"if " + b"1+" * 900 + b"1: pass", "agent.py cannot be read as Python"),
        ("agent.py", b"x = 1", "agent.py has no code that takes a stream, serves one or fetches"),
        ("agent.py::Reply", b"x = 1", "agent.py::Reply has no code that takes a stream"),
        ("folder", None, "folder has no code that takes a stream, serves one or fetches"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_is_said(project, capsys, name, content, message):
    """An unreadable target or one without candidates gives one line and the exit status 2."""
    root = project()
    if content is not None:
        root.joinpath(name.split("::")[0]).write_bytes(content)
    root.joinpath("folder").mkdir()
    assert _cli.main(["init", name]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"streamperf init: {message}")
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_settings_that_are_none_stop_it(project, capsys):
    """An invalid pyproject.toml exits with 2 before any file is written."""
    root = project("[tool", agent=FED)
    assert _cli.main(["init", "agent.py", "--write"]) == 2
    assert "pyproject.toml cannot be read as TOML" in capsys.readouterr().err
    assert not root.joinpath("tests").exists()


# -- settings


@pytest.mark.parametrize(
    "text", ["", "a = 1", "a = 1\n", "# none\r\na = nan\r\n", "[tool.x]\ny = 1\n", "[tool]\n"]
)
def test_a_table_is_appended(text):
    """An appended table keeps the existing text and its line endings."""
    whole = append_table(text, "[tool.streamperf]\nmode = 'warn'\n")
    assert whole.startswith(text)
    assert tomllib.loads(whole)["tool"]["streamperf"] == {"mode": "warn"}
    assert ("\r\n" in text) == ("\r\n" in whole)
    assert "\n" not in whole.replace("\r\n", "") or "\r\n" not in text


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1",
        "tool = {}",
        "[tool.streamperf.budgets]\nx = 1",
        "[tool.streamperf]\nmode = 'fail'",
        "x =",
    ],
)
def test_a_table_that_does_not_fit_is_refused(text):
    """A document that the table would make invalid is refused."""
    with pytest.raises(Unwritable, match="the table cannot be appended"):
        append_table(text, "[tool.streamperf]\nmode = 'warn'\n")

"""`streamperf init`: what it proposes is right as it stands, or says what is not."""

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
from pytest_streamperf._cli.init.project import Unwritable, appended, place_of, project_of
from pytest_streamperf._cli.init.proposal import chosen, proposal
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
# A module, the lines of it that go wrong, and what is said then.
GONE_WRONG = {
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
MODULES = [code for code, _, _ in GONE_WRONG.values()]
SETTINGS = '[tool.pytest.ini_options]\npythonpath = ["."]\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Makes files of a project, and goes there: pytest is told to import from its root."""
    monkeypatch.chdir(tmp_path)

    def make(settings=SETTINGS, **modules):
        if settings is not None:
            tmp_path.joinpath("pyproject.toml").write_bytes(settings.encode())
        for name, code in modules.items():
            tmp_path.joinpath(f"{name}.py").write_text(code, encoding="utf-8")
        return tmp_path

    return make


def found_in(code):
    """What is found in a module's text."""
    return candidates(read("agent.py", code.encode()), "agent")


def mistaken(code, *changes):
    """The module with a line gone wrong."""
    for before, after in changes:
        assert before in code
        code = code.replace(before, after)
    return code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What is said of each module by the tests that are written for it: healthy, and gone wrong."""
    root = tmp_path_factory.mktemp("written")
    quick = f"{SETTINGS}[tool.streamperf.budgets]\nup_to = 2_000\n"
    root.joinpath("pyproject.toml").write_text(quick, encoding="utf-8")
    for name, (code, changes, _) in GONE_WRONG.items():
        module = root / f"{name}.py"
        module.write_text(mistaken(code, *changes) if code == ASKED else code, encoding="utf-8")
        assert _cli.main(["init", str(module), "--write"]) == 0
        module.write_text(code, encoding="utf-8")
    healthy = outcomes(root)
    for name, (code, changes, _) in GONE_WRONG.items():
        root.joinpath(f"{name}.py").write_text(mistaken(code, *changes), encoding="utf-8")
    return healthy, outcomes(root)


def outcomes(root):
    """What was wrong in the tests of each module, all of which are run."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "streamperf"]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command += ["-W", "error", "--junitxml=found.xml", "tests"]
    done = subprocess.run(command, cwd=root, env=alone, check=False, capture_output=True)
    assert done.returncode in {0, 1}, done.stdout
    found = {}
    for case in ET.parse(root / "found.xml").iter("testcase"):  # noqa: S314 - ours
        name = case.get("classname").removeprefix("tests.test_").removesuffix("_streaming")
        found[name] = found.get(name, "") + "".join(each.text or "" for each in case)
    return found


@pytest.mark.parametrize("name", GONE_WRONG)
def test_what_is_written_passes_and_sees_a_mistake(runs, name):
    """Written for the healthy module, it is green; when a line goes wrong it is red.

    A fetch without a gate is written for as it is: there is nothing to prove, and it is to go.
    """
    healthy, wrong = runs
    assert not healthy[name]
    assert GONE_WRONG[name][-1] in wrong[name]


def test_the_table_that_is_written_is_read(pytester, run_alone):
    """A mistake warns, as nothing turns red by being adopted."""
    pytester.path.joinpath("pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    module = pytester.path / "agent.py"
    module.write_text(SHOWN, encoding="utf-8")
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    module.write_text(mistaken(SHOWN, (">= EVERY", ">= 0")), encoding="utf-8")
    result = run_alone("tests/test_agent_streaming.py")
    result.assert_outcomes(passed=2, warnings=2)
    said = ["*StreamperfWarning: text: an update came 20.0 ms*", "*agent.py:25 in Reply.flush*"]
    result.stdout.fnmatch_lines(said)


# -- what is proposed


def test_a_mistake_that_is_there_is_proposed_for_as_well():
    """A project that adopts has it already."""
    both = (FED, mistaken(FED, *ADDED))
    healthy, bad = (proposal("agent", chosen(found_in(code)), ()) for code in both)
    assert healthy == bad


def test_what_is_proposed_is_formatted(tmp_path):
    """Of every kind; names that are very long are for the project's own formatter."""
    for number, each in enumerate(each for code in MODULES for each in found_in(code)):
        text = proposal("package.agent", [each], ["not sure " * 20]).test
        tmp_path.joinpath(f"test_{number}.py").write_text(text, encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", tmp_path]
    done = subprocess.run(ruff, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_budget_is_for_what_was_found():
    """No key without a check, each with a value that is read; and it fails nothing at first."""
    found = [each for code in MODULES for each in found_in(code)]
    table = tomllib.loads(proposal("agent", found, ()).table)["tool"]["streamperf"]
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
    alone = tomllib.loads(proposal("agent", found_in(SERVED), ()).table)["tool"]["streamperf"]
    assert alone == {"mode": "warn"}


LOOP = "def collect(stream):\n    for delta in stream:\n        print({})\n"
CLASS = """
class Reply{}:
    def __init__(self{}):
        self.parts = []

    def feed(self, delta):
        self.parts.append(delta)
        "".join(self.parts)
"""


UNTOLD = "whether delta is text cannot be told"


@pytest.mark.parametrize(
    ("code", "doubt"),
    [
        (LOOP.format("delta.choices"), UNTOLD),
        (LOOP.format("delta.index"), UNTOLD),
        (LOOP.format("delta['text'], delta.upper()"), UNTOLD),
        (LOOP.format("isinstance(delta, dict), delta.upper()"), UNTOLD),
        (LOOP.format("send(delta)"), UNTOLD),
        (LOOP.replace("stream):", "stream: Iterator[Event]):").format(1), UNTOLD),
        ("def f(stream):\n    n = 0\n    for delta in stream: n += delta", UNTOLD),
        (LOOP.format("json.loads(delta)"), "it reads a format"),
        (LOOP.format("delta == 'data: '"), "it reads a format"),
        (LOOP.replace("collect", "parse_sse").format(1), "it reads a format"),
        (LOOP.format("delta, len(stream)"), "stream may be more than a stream"),
        (LOOP.format("delta, stream.usage"), "stream may be more than a stream"),
        (LOOP.replace("stream):", "stream: list[str]):").format(1), "may be more than a stream"),
        (LOOP.replace("stream):", "stream, model):").format(1), "model has no default"),
        ("@cached\n" + LOOP.format(1), "what @cached makes of collect"),
        (CLASS.format("", ", client"), "client has no default"),
        (CLASS.format("(Base)", "").replace("__init__", "other"), "what Base takes is not in"),
        (CLASS.format("", "").replace("delta)", "delta, index)", 1), "index has no default"),
        (SHOWN.replace("EVERY = 0.1", "from settings import EVERY"), "say so in every="),
        (
            SHOWN.replace(
                "time.monotonic() - self.shown_at >", "1e3 * (time.monotonic() - self.shown_at) >"
            ),
            "say so in every=",
        ),
        (SHOWN.replace('self.show("".join(self.parts))', "self.show(self)"), "value= is what"),
        (
            GENERATED.replace("        yield", "        await it()\n        yield"),
            "it may wait for",
        ),
        (GATED.replace("PYTEST_VERSION", "NO_FETCH"), "say with rows= what NO_FETCH"),
        (
            ASKED.replace("= fetch\n", "= asyncio.create_task(fetch())\n"),
            "an event loop has to run where it is made",
        ),
        ("from fastapi import FastAPI\napp = FastAPI()", "no request was found"),
    ],
)
def test_what_is_not_sure_is_said(code, doubt):
    """In the list of doubts, and in the test, where it is to be filled in."""
    doubted = [each for each in found_in(code) if doubt in " ".join(each.doubts)]
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
    """Text is told by what is done with it, and a default is a default."""
    assert not found_in(code)[0].doubts


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
    """What is abstract, out of reach, or only runs when it is asked to."""
    assert found_in(code) == []


ROUTE = """
app = FastAPI()

@app.{}
async def handler({}):
    return {}
"""


@pytest.mark.parametrize(
    ("route", "takes", "returns", "sure"),
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
def test_a_route_is_asked_that_answers_as_it_stands(route, takes, returns, sure):
    """Without arguments, credentials or a body."""
    (found,) = found_in(ROUTE.format(route, takes, returns))
    assert (not found.doubts) == sure


def test_a_route_that_streams_is_asked_first():
    """It is what clients leave in the middle of."""
    code = ROUTE.format("get('/health')", "", "{}") + SERVED.replace(
        "app = Starlette", "api = Starlette"
    )
    assert all('"/events"' in proposal("agent", [each], ()).test for each in found_in(code)[:2])


def test_a_name_that_the_test_uses_itself_is_imported_as_another():
    """Such as a function called `stream`."""
    found = found_in(
        LOOP.replace("collect(stream)", "stream(deltas)")
        .replace("in stream", "in deltas")
        .format(1)
    )
    assert "from agent import stream as the_stream" in proposal("agent", found, ()).test


def test_what_comes_after_a_default_is_given_by_name():
    """A callback is given where it is taken, and not to what stands before it."""
    code = "def show(stream, width=80, on_text=None):\n    for delta in stream: on_text(delta)"
    text = proposal("agent", found_in(code), ()).test
    assert "show(stream, on_text=lambda *_: None)" in text.replace("the_show", "show")


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(text):
    """Nothing but what it says is raised."""
    with contextlib.suppress(Unreadable):
        candidates(read("a.py", text), "a")


# -- where it is


@pytest.mark.parametrize(
    ("file", "files", "settings", "module", "sure"),
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
    tmp_path, file, files, settings, module, sure
):
    """By the project's layout and settings; where they do not say, it is not sure."""
    for each in [file, *files]:
        tmp_path.joinpath(each).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(each).touch()
    tmp_path.joinpath("pyproject.toml").write_text(settings, encoding="utf-8")
    place = place_of(tmp_path / file, project_of(tmp_path / file), ())
    assert (place.module, not place.doubts) == (module, sure)


def test_what_is_installed_is_sure(tmp_path):
    """It is on the interpreter's path, as an editable install is."""
    file = tmp_path / "agent.py"
    file.touch()
    assert not place_of(file, project_of(file), [str(tmp_path)]).doubts


# -- the command


def test_nothing_is_run(project, capsys):
    """A module that ends the process when it is imported is read like any other."""
    project(agent=f"raise SystemExit(5)\n{FED}")
    assert _cli.main(["init", "agent.py"]) == 0
    assert "test_reply_feed_is_linear" in capsys.readouterr().out


@pytest.mark.parametrize(
    "target", ["agent.py", "agent.py::Reply", "agent.py::Reply.feed", "agent:Reply", "agent", "."]
)
def test_targets_are_spelled_in_many_ways(project, capsys, target):
    """A file, a name in it, a module, a folder."""
    project(agent=FED)
    assert _cli.main(["init", target]) == 0
    printed = capsys.readouterr().out
    assert "agent.py:6 Reply.feed: adds what feed(delta) takes" in printed
    assert "from agent import Reply" in printed
    assert f"next: streamperf init {target} --write" in printed


def test_both_files_are_written(project, capsys):
    """And what was written is said, with what to do next."""
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
    assert sorted(each.name for each in root.iterdir()) == ["agent.py", "pyproject.toml", "tests"]


def test_what_is_not_sure_is_printed_and_not_written(project, capsys):
    """With a status that says so."""
    root = project(agent=CLASS.format("", ", client"))
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    printed = capsys.readouterr().out
    assert "# TODO: client has no default" in printed
    assert "not sure: client has no default" in printed
    assert not root.joinpath("tests").exists()
    assert root.joinpath("pyproject.toml").read_bytes() == SETTINGS.encode()


def test_what_is_sure_is_written_without_what_is_not(project, capsys):
    """The rest is listed, with its command."""
    code = SHOWN.replace("EVERY = 0.1", "from settings import EVERY")
    root = project(agent=code)
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    assert (
        "streamperf init agent.py::Reply.feed  # throttling (not sure)" in capsys.readouterr().out
    )
    assert "throttled" not in root.joinpath("tests/test_agent_streaming.py").read_text()


def test_a_test_that_is_there_is_not_overwritten(project, capsys):
    """Nothing else is written then, either."""
    root = project(agent=FED)
    root.joinpath("tests").mkdir()
    there = root / "tests/test_agent_streaming.py"
    there.write_text("mine", encoding="utf-8")
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    said = "tests/test_agent_streaming.py is there already, and is not overwritten"
    assert said in capsys.readouterr().err
    assert there.read_text(encoding="utf-8") == "mine"
    assert root.joinpath("pyproject.toml").read_bytes() == SETTINGS.encode()


def test_settings_that_are_there_are_kept(project, capsys):
    """The budget is printed for whoever wants it."""
    settings = SETTINGS + '[tool.streamperf]\nmode = "fail"\n'
    root = project(settings, agent=FED)
    assert _cli.main(["init", "agent.py", "--write"]) == 0
    assert root.joinpath("pyproject.toml").read_text(encoding="utf-8") == settings
    printed = capsys.readouterr().out
    assert "pyproject.toml has [tool.streamperf] already" in printed
    assert 'max_superlinear = "25%"' in printed


def test_all_is_written_or_nothing(project, capsys, monkeypatch):
    """When the second file cannot be, the first is taken away, and its folder."""
    root, replace = project(agent=FED), Path.replace

    def refuse(path, target):
        if target.name == "pyproject.toml":
            raise PermissionError(13, "Permission denied", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    assert _cli.main(["init", "agent.py", "--write"]) == 1
    assert "pyproject.toml: Permission denied" in capsys.readouterr().err
    assert sorted(each.name for each in root.iterdir()) == ["agent.py", "pyproject.toml"]


def test_a_folder_lists_what_it_has(project, capsys):
    """The best first, each with its command; what cannot be read is said, tests are left out."""
    project(good=FED, also=COLLECTED, broken="def", test_it=FED)
    assert _cli.main(["init", "."]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("also.py:2 collect")
    assert "streamperf init good.py::Reply.feed  # growth: adds what" in printed
    assert "not read: broken.py:1 is not Python" in printed
    assert "test_it.py" not in printed


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.py", None, "gone.py is no file, no folder and no module"),
        ("agent.txt", b"", "agent.txt is no Python file"),
        ("agent.py", b"def", "agent.py:1 is not Python that can be read: invalid syntax"),
        ("agent.py", b"x = '\xff'", "agent.py:1 is not Python that can be read: (unicode error)"),
        ("agent.py", b"x = 1\0", "agent.py is not Python that can be read"),
        ("agent.py", b"(" * 5_000 + b")" * 5_000, "agent.py"),
        ("agent.py", b"x = " + b"-" * 50_000 + b"1", "agent.py"),
        ("agent.py", b"if " + b"1+" * 900 + b"1: pass", "agent.py is not Python that can be read"),
        ("agent.py", b"x = 1", "agent.py has nothing that takes a stream, serves one, or fetches"),
        ("agent.py::Reply", b"x = 1", "agent.py::Reply has nothing that takes a stream"),
        ("folder", None, "folder has nothing that takes a stream, serves one, or fetches"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_is_said(project, capsys, name, content, says):
    """In one line, with the status of a mistake."""
    root = project()
    if content is not None:
        root.joinpath(name.split("::")[0]).write_bytes(content)
    root.joinpath("folder").mkdir()
    assert _cli.main(["init", name]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"streamperf init: {says}")
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_settings_that_are_none_stop_it(project, capsys):
    """Before anything is written."""
    root = project("[tool", agent=FED)
    assert _cli.main(["init", "agent.py", "--write"]) == 2
    assert "pyproject.toml is no TOML that can be read" in capsys.readouterr().err
    assert not root.joinpath("tests").exists()


# -- settings


@pytest.mark.parametrize(
    "text", ["", "a = 1", "a = 1\n", "# none\r\na = nan\r\n", "[tool.x]\ny = 1\n", "[tool]\n"]
)
def test_a_table_is_appended(text):
    """What is there stays as it is, with its ends of lines."""
    whole = appended(text, "[tool.streamperf]\nmode = 'warn'\n")
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
    """A document that would not be one any more stays as it is."""
    with pytest.raises(Unwritable, match="the table cannot be appended"):
        appended(text, "[tool.streamperf]\nmode = 'warn'\n")

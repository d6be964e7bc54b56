"""What the page at `/` is made of and asks for: its files, a run by GET, tool calls."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import httpx
import pytest

from pytest_streamperf.wire.server import serve_app
from reference_impl import (
    agent,
    create_app,
    demo_engine,
    page,
    regressed,
)
from reference_impl.agent import Done, Invocation, TextDelta
from reference_impl.page import tool_calls

RUN, SWITCHES = "/agents/demo/run", "/api/dev/regressions"
TELL = "Tell me 12 words."


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server with all that is under /api/dev, for tests that leave it as it was."""
    with serve_app(create_app(debug=True)) as url:
        yield url


def told(message: str) -> list[agent.Event]:
    """All the events of a tool call while it is written."""

    async def tell() -> list[agent.Event]:
        messages = [{"role": "user", "content": message}]
        return [event async for event in tool_calls.written(demo_engine, messages)]

    return asyncio.run(tell())


def test_the_page_is_served_with_a_strict_policy(server: str) -> None:
    """Scripts and styles are its own, and it may talk to this machine alone."""
    response = httpx.get(server)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    sources = re.search(r"connect-src ([^;]*)", policy)
    assert sources is not None
    hosts = re.findall(r"//([^:]+):", sources[1])
    assert set(hosts) == {"127.0.0.1", "localhost"}
    assert "unsafe" not in policy


def test_all_that_it_refers_to_is_there(server: str) -> None:
    """With the type that a browser insists on, from this server and nowhere else."""
    asked = ["/page/page.js"]
    for path in asked:
        response = httpx.get(server + path)
        assert response.headers["content-type"].startswith("text/javascript")
        assert response.headers["x-content-type-options"] == "nosniff"
        modules = re.findall(r'from "\./([a-z]+\.js)"', response.text)
        asked += [f"/page/{name}" for name in modules if f"/page/{name}" not in asked]
    assert {f"/page/{name}" for name in page.FILES if name.endswith(".js")} == set(asked)
    markup = page.FILES["index.html"].read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"#]+)"', markup)) == {
        "data:,",
        "/page/page.css",
        "/page/page.js",
    }
    assert httpx.get(f"{server}/page/page.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("path", ["/page/__init__.py", "/page/..%2Fapp.py", "/page/nope.js"])
def test_no_other_file_is_served(server: str, path: str) -> None:
    """Not even one that lies beside them."""
    response = httpx.get(server + path)
    assert response.status_code == 404
    assert "allowed: " in response.json()["error"]["message"]


def test_its_files_stay_small() -> None:
    """A file that outgrows this wants to be two ideas."""
    for file in page.FILES.values():
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, file.name


def test_nothing_on_it_becomes_markup() -> None:
    """What is said is put in as text, and nothing is evaluated."""
    for file in page.FILES.values():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)


def test_a_run_by_get_is_the_run_by_post(server: str) -> None:
    """Byte for byte: an EventSource reads what everybody reads."""
    body = {"messages": [{"role": "user", "content": TELL}]}
    by_get = httpx.get(server + RUN, params={"message": TELL})
    assert by_get.headers["content-type"] == "text/event-stream"
    assert by_get.content == httpx.post(server + RUN, json=body).content
    assert by_get.text.count("event: delta\n") == 12 + 4


@pytest.mark.parametrize("path", [RUN, RUN + "?message=", "/page/tool-calls"])
def test_a_run_by_get_needs_a_message(server: str, path: str) -> None:
    """It is told how to give one."""
    response = httpx.get(server + path)
    assert response.status_code == 422
    assert response.json()["error"]["message"].endswith("allowed: ?message=text")


@pytest.mark.parametrize(
    ("asked", "words", "letters"),
    [("tell me 3 words", 3, None), ("Please tell me 5 words of 40 letters.", 5, 40)],
)
def test_the_model_tells_what_it_is_asked_for(asked: str, words: int, letters: int | None) -> None:
    """So many words, of so many letters."""
    *tale, last = told(asked)
    pieces = [event.text for event in tale if isinstance(event, TextDelta)]
    assert len(pieces) == words
    assert letters is None or {len(piece.strip()) for piece in pieces} == {letters}
    assert isinstance(last, Done)


def test_a_tool_call_is_told_while_it_is_written() -> None:
    """Updates are few, never behind what was written, and the last one has it all."""
    written = ""
    updates = []
    for event in told(TELL):
        match event:
            case TextDelta(text):
                written += text
            case Invocation(_, {"text": text}):
                updates.append(text)
                assert text == written
            case Done(text):
                assert text == written == updates[-1]
    assert len(updates) == 2


def test_an_unthrottled_tool_call_shows() -> None:
    """An update for each piece, its start and its end."""
    with regressed("no-throttle"):
        assert sum(isinstance(event, Invocation) for event in told(TELL)) == 12 + 2


def test_a_tool_call_that_fails_says_so_after_all_that_came() -> None:
    """What is pending is sent, and what the model raised is raised."""
    events = []

    async def tell() -> None:
        messages = [{"role": "user", "content": "Tell me 3 words, then fail."}]
        async for event in tool_calls.written(demo_engine, messages):
            events.append(event)

    with pytest.raises(ConnectionError, match="hung up"):
        asyncio.run(tell())
    assert events[-1] == Invocation("word_count", {"text": "A stream that"})


@pytest.mark.parametrize(("piece", "pieces", "letters"), [("four", 3, 9), ("", 9, 0)])
def test_a_tool_call_is_bounded(
    monkeypatch: pytest.MonkeyPatch, piece: str, pieces: int, letters: int
) -> None:
    """Each update parses all there is; a model is closed when it has said enough."""
    monkeypatch.setattr(tool_calls, "_MOST_WRITTEN", 9)
    closed = []

    async def long(_messages: list[agent.Message]) -> AsyncIterator[str]:
        try:
            for _ in range(99):
                yield piece
        finally:
            closed.append(True)

    async def tell() -> list[str]:
        events = [event async for event in tool_calls.written(long, [])]
        return [event.text for event in events if isinstance(event, TextDelta)]

    told = asyncio.run(tell())
    assert (len(told), len("".join(told))) == (pieces, letters)
    assert closed


def test_a_tool_call_waits_for_who_reads_it() -> None:
    """The model is asked for no more than a client takes."""
    asked = []

    async def endless(_messages: list[agent.Message]) -> AsyncIterator[str]:
        while True:
            asked.append("on")
            yield asked[-1]

    async def read_one() -> None:
        async with aclosing(tool_calls.written(endless, [])) as events:
            await anext(events)
            for _ in range(100):
                await asyncio.sleep(0)

    asyncio.run(read_one())
    assert asked == ["on"]


def test_a_tool_call_that_nobody_reads_is_left() -> None:
    """Its task ends, and the model is closed."""
    closed = []

    async def waits(_messages: list[agent.Message]) -> AsyncIterator[str]:
        try:
            yield "hello"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def leave() -> int:
        async with aclosing(tool_calls.written(waits, [])) as events:
            await anext(events)
        return len(asyncio.all_tasks())

    assert asyncio.run(leave()) == 1
    assert closed


def test_without_debug_there_are_no_switches() -> None:
    """The page is there, is told, and can still run a turn."""
    with serve_app(create_app()) as url:
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{url}/page/about").json() == {"debug": False}
        assert httpx.get(url + SWITCHES).status_code == 404
        assert httpx.post(url + SWITCHES, json={"on": ["no-throttle"]}).status_code == 404

"""One headless browser for all of these tests, and pages that keep what they did."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from pytest_streamperf._report.html import html
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from tests.data.documents import sample


def pytest_addoption(parser):
    """Say where pictures go that someone wants to look at."""
    parser.addoption("--pictures", type=Path, metavar="FOLDER", help="keep the screenshots there")


@pytest.fixture(scope="session")
def chromium():
    """Debian's, or whatever is called so on the PATH."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("there is no chromium on the PATH: run `make test-browser`")
    with sync_playwright() as playwright:
        # It refuses to be root with a sandbox; all that it opens is what these tests wrote.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sample_page():
    """The page of a run with checks of all kinds."""
    return html(sample())


@pytest.fixture
def pictures(request, tmp_path):
    """Where screenshots go."""
    folder = request.config.getoption("--pictures") or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a page as a person would, from a file; it must ask for nothing and complain of nothing.

    The options are those of a browser's context.
    """
    contexts, asked, complaints = [], [], []
    file = tmp_path / "report.html"

    def open_page(text, **options):
        file.write_text(text, encoding="utf-8")
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {url.partition("#")[0] for url in asked} == {file.as_uri()}
    assert complaints == []


@pytest.fixture
def url():
    """A server with its switches; what is switched is put back when it stops."""
    with serve_app(create_app(debug=True)) as url:
        yield url


@pytest.fixture
def visited(chromium):
    """Opens a page of a server; nothing may complain, and nobody else may be asked."""
    contexts, complaints = [], []

    def visit(url, *, allowed=(), **options):
        contexts.append(
            chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        )
        page = contexts[-1].new_page()
        own = (url.partition("?")[0], *allowed, "data:,")
        page.on("request", lambda each: each.url.startswith(own) or complaints.append(each.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(url)
        expect(page.locator("#probes button")).to_have_count(5)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []

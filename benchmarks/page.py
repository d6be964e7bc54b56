"""How large the page of a report is, and how long a browser takes to open it.

    python -m benchmarks.page

Size in bytes, and the median of nine openings of a file, in a browser that has opened it before:
seconds to the load event, to the first contentful paint, and until the filter answered.
Needs what `make test-browser` installs.
"""

import shutil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

from benchmarks.environment import machine
from pytest_streamperf._report.html import html
from tests.data.documents import many

CHECKS, ROUNDS = (10, 100, 500, 2000), 9
LIMITS = "limits for 500: 3 MB, and 1 s to load and first paint"
FILTER = """() => {
    const start = performance.now(), words = document.getElementById("words");
    words.value = "test_reply_7";
    words.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.getBoundingClientRect();
    return (performance.now() - start) / 1000;
}"""


def opening(page: Page, address: str) -> tuple[float, float, float]:
    """Seconds to the load event, to the first paint, and that the filter takes."""
    page.goto(address, wait_until="load")
    while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
        pass  # the page's policy lets Playwright not wait for it in the page
    loaded = "performance.getEntriesByType('navigation')[0].loadEventStart / 1000"
    painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
    return page.evaluate(loaded), page.evaluate(painted), page.evaluate(FILTER)


def main() -> None:
    """Print a row for each number of checks."""
    print(machine())
    print(LIMITS)
    print(f"{'checks':>6}  {'bytes':>10}  {'load':>6}  {'paint':>6}  {'filter':>6}")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for checks in CHECKS:
            file = Path(folder, f"{checks}.html")
            file.write_text(html(many(checks)), encoding="utf-8")
            page = browser.new_page()
            opening(page, file.as_uri())
            rounds = [opening(page, file.as_uri()) for _ in range(ROUNDS)]
            said = "  ".join(f"{median(each):6.3f}" for each in zip(*rounds, strict=True))
            print(f"{checks:6,}  {file.stat().st_size:10,}  {said}")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()

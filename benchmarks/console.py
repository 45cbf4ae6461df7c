"""How long the console's first screen takes in a headless Chromium that has seen nothing yet, and what watching costs.

Cold: a new browser context for each try, so no file is cached. From the click on "Log in" until the first figures stand
on Live. Then ten viewers watch for a while at 1 Hz, and the processor time of the console is read from /proc. All of it
shares the machine. It ends by itself: after `--most-minutes` it gives up, and says so.
"""

import argparse
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from report import publish
from sentinel.bench.load_generator import Target, closed_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import add_first_admin
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings

HOST, CHROMIUM, VIEWERS = "127.0.0.1", shutil.which("chromium") or "/usr/bin/chromium", 10
FIRST_FIGURES = "[data-at=rate]:not(:has(.wait))"
PATIENCE_MS, SENT = 30_000, 5_000
_BYTES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((all, one) => all + one.transferSize, 0)"""


def main() -> None:
    """Start both, open pages, watch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20, help="that ten viewers watch")
    parser.add_argument("--most-minutes", type=int, default=8, help="then it gives up")
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(given.most_minutes * 60)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        work = prepare(Path(folder), 6_000, lambda *_: None)
        home = work.score_home
        server = ServerProcess(home, HOST, free_port(HOST))
        own = {"SENTINEL_SERVER_URL": f"http://{HOST}:{server.port}"}
        console = ConsoleProcess(home, HOST, free_port(HOST), environment=own)
        password = add_first_admin(read_settings({"home": home}))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            server.start()
            closed_loop(Target(HOST, server.port, 4), work.score_requests, SENT)
            console.start()
            url = f"http://{HOST}:{console.port}"
            first = [first_screen(browser, url, password) for _ in range(given.tries)]
            share = watched(browser, url, password, console.pid, given.seconds)
        finally:
            browser.close()
            console.stop()
            server.stop()
    log_in, live, kilobytes = (np.array(one) for one in zip(*first, strict=True))
    figures = {
        "log_in_page_s": spread(log_in), "live_with_figures_s": spread(live), "kilobytes": float(kilobytes.max()),
        f"core_with_{VIEWERS}_viewers": round(share, 4), "tries": given.tries,
    }  # fmt: skip
    publish("console", "a new context for each try; processor time from /proc", figures)


def first_screen(browser: Browser, url: str, password: str) -> tuple[float, float, float]:
    """Seconds until the log-in stands, seconds from its button to the first figures of Live, kilobytes of all that."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    begun = time.perf_counter()
    page.goto(f"{url}/login")
    log_in = time.perf_counter() - begun
    bytes_of_log_in = page.evaluate(_BYTES)
    begun = logged_in(page, password)
    page.wait_for_selector(FIRST_FIGURES)
    live = time.perf_counter() - begun
    kilobytes = (bytes_of_log_in + page.evaluate(_BYTES)) / 1000
    page.context.close()
    return log_in, live, kilobytes


def watched(browser: Browser, url: str, password: str, pid: int, seconds: float) -> float:
    """The share of a core that the console takes while ten viewers watch Live, each with a browser of their own.

    One browser opens no more than six connections to an address, and each stream of events is one.
    """
    pages = [browser.new_context().new_page() for _ in range(VIEWERS)]
    for one in pages:
        one.set_default_timeout(PATIENCE_MS)
        one.goto(f"{url}/login")
        logged_in(one, password)
        one.wait_for_selector(FIRST_FIGURES)
    before, begun = processor_s(pid), time.perf_counter()
    pages[0].wait_for_timeout(seconds * 1000)
    spent = (processor_s(pid) - before) / (time.perf_counter() - begun)
    for one in pages:
        one.context.close()
    return spent


def logged_in(page: Page, password: str) -> float:
    """Log in; when the button was pressed."""
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", password)
    begun = time.perf_counter()
    page.click("button[type=submit]")
    return begun


def give_up(_number: int, _frame: FrameType | None) -> None:
    """End it; what was started ends on the way out."""
    raise TimeoutError("the console was not measured in time: is the machine busy? --most-minutes gives it longer")


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> dict[str, float]:
    """The least, the median and the most."""
    found = {"least": values.min(), "median": np.median(values), "most": values.max()}
    return {name: round(float(value), 3) for name, value in found.items()}


if __name__ == "__main__":
    main()

"""The page of the API's description: served whole from here, and shown in nobody's frame."""

import re
import shutil
import subprocess

import pytest

HOST = "127.0.0.1"
PARTS = ("swagger-ui.css", "swagger-ui-bundle.js", "start.js")


@pytest.fixture(scope="module")
def server(start_server, shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("two") / "home"
    shutil.copytree(shop_home, home)
    shutil.copytree(shop_home, home / "detectors" / "wallet")
    return start_server(home)


@pytest.mark.parametrize("prefix", ["", "/v1/wallet"])
def test_all_of_the_page_is_below_its_own_address(server, ask, prefix):
    page = ask(server.port, "GET", f"{prefix}/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert not re.search(rb"//|<script>", page.body.partition(b">")[2])
    assert set(re.findall(rb'(?:src|href)="([^"]*)"', page.body)) == {
        b"data:,",
        *(b"docs/" + one.encode() for one in PARTS),
    }
    for one in PARTS:
        part = ask(server.port, "GET", f"{prefix}/docs/{one}")
        assert (part.status, len(part.body) > 100) == (200, True)
    assert ask(server.port, "GET", f"{prefix}/docs/other.js").status == 404
    assert ask(server.port, "GET", f"{prefix}/openapi.json").status == 200


def test_browsers_are_told_what_pages_of_ours_may_do(server, ask):
    for method, path in (
        ("GET", "/docs"), ("GET", "/docs/start.js"), ("GET", "/"), ("GET", "/nothing"), ("DELETE", "/docs"), ("GET", "/health/ready"),
        ("POST", "/admin/reload"), ("GET", "/v1/wallet/docs"), ("GET", "/v1/decisions/none"),
    ):  # fmt: skip
        headers = ask(server.port, method, path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser")
@pytest.mark.parametrize("prefix", ["", "/v1/wallet"])
def test_a_browser_without_the_internet_shows_it(server, tmp_path, prefix):
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
            "--virtual-time-budget=10000", f"--user-data-dir={tmp_path}", "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE localhost",
            f"http://localhost:{server.port}{prefix}/docs",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert f'data-path="{prefix}/{"score" if prefix else "v1/score"}"' in done.stdout
    assert "Content Security Policy" not in done.stderr

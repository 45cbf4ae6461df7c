"""What `pip install` gets: a wheel and a source distribution of the package alone, which work in an empty environment.

A build and an installation need a package index and minutes, so these tests run where SENTINEL_TEST_REQUIRE names `wheel`.
SENTINEL_WHEEL_PYTHONS="3.11 3.12 3.13" installs for each of them; without it, for the Python that runs the tests.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sentinel.commands.server_process import free_port

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = os.environ.get("SENTINEL_WHEEL_PYTHONS", HERE).split()
PATIENCE_S = 1_200
AS_TAGGED = {"SETUPTOOLS_SCM_PRETEND_VERSION": "9.8.7"}  # whatever happens in the tree meanwhile
IN_THE_SDIST = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
IN_THE_METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}

pytestmark = [
    pytest.mark.timeout(4 * PATIENCE_S),
    pytest.mark.skipif(
        "wheel" not in os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split(),
        reason="builds and installs take minutes; SENTINEL_TEST_REQUIRE=wheel runs them",
    ),
]


def run(*command, cwd=ROOT, code=0, **environment):
    """What a command says, on both of its outputs; PYTHONPATH must not lend an empty environment what it lacks."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == code, (
        f"{command} ends with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout + done.stderr


def until_compiled(*command, cwd):
    """What a command says; again where a slow machine did not compile in time, as it says itself: what is done is kept."""
    for _ in range(5):
        try:
            return run(*command, cwd=cwd)
        except AssertionError as problem:
            if "so try again" not in " ".join(str(problem).split()):
                raise
    raise AssertionError(f"{command} is never ready")


def build(folder, *what, source=ROOT, **environment):
    """The files that `uv build` makes of a source tree."""
    run(UV, "build", "--quiet", "--out-dir", folder, *what, source, SOURCE_DATE_EPOCH="1700000000", **environment)
    return sorted(one for one in folder.iterdir() if one.suffix != ".gitignore" and one.name != ".gitignore")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution and the wheel that is made of it."""
    wheel, source = build(tmp_path_factory.mktemp("built"), **AS_TAGGED)
    assert (wheel.suffix, source.suffix) == (".whl", ".gz")
    return {"wheel": wheel, "source": source}


@pytest.fixture(scope="module")
def of_the_package():
    """The files of the package in the repository, as they are named from its folder."""
    tracked = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src/sentinel").split("\0")
    return {one.removeprefix("src/") for one in tracked if one and (ROOT / one).exists()}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built, of_the_package):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
    metadata = {one for one in names if one.split("/")[0].endswith(".dist-info")}
    assert names - metadata == of_the_package
    assert {one.split("/", 1)[1] for one in metadata} == IN_THE_METADATA
    assert {Path(one).suffix for one in of_the_package} >= {
        ".html",
        ".js",
        ".css",
        ".svg",
        ".lua",
        ".LICENSE",
        ".typed",
    }


def test_the_source_distribution_has_the_package_and_what_builds_it(built, of_the_package):
    with tarfile.open(built["source"]) as source:
        names = {one.name.split("/", 1)[1] for one in source.getmembers() if one.isfile()}
    assert names == {f"src/{one}" for one in of_the_package} | IN_THE_SDIST


def test_the_wheel_of_the_source_distribution_is_that_of_the_tree_to_the_byte(built, tmp_path):
    (of_the_tree,) = build(tmp_path, "--wheel", **AS_TAGGED)
    assert of_the_tree.name == built["wheel"].name
    assert of_the_tree.read_bytes() == built["wheel"].read_bytes()


@pytest.mark.parametrize(
    ("tags", "version"),
    [
        ([], r"0\.1\.dev\d+\+g[0-9a-f]+"),
        (["v1.2.3", "drill-2031"], r"1\.2\.3"),
        (["v2.0.0rc1"], r"2\.0\.0rc1"),
        (None, r"0\.0"),
    ],
)
def test_the_version_is_that_of_the_tag(tmp_path, tags, version):
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", "--no-tags", ROOT, clone)
    for tag in tags or ():
        run("git", "tag", tag, cwd=clone)
    if tags is None:
        shutil.rmtree(clone / ".git")
    (made,) = build(tmp_path / "built", "--sdist", source=clone)
    assert re.fullmatch(rf"sentinel_fraud-{version}\.tar\.gz", made.name)


def interpreter(wanted):
    """A Python of this version: the one that runs, of pyenv, or on the path; None where there is none that runs."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python"))
    found = [sys.executable] if wanted == HERE else [*pyenv, shutil.which(f"python{wanted}")]
    for one in filter(None, found):
        asked = subprocess.run([one, "--version"], capture_output=True, text=True, timeout=60)
        if asked.returncode == 0 and f" {wanted}." in asked.stdout:
            return one
    return None


@pytest.fixture(scope="module", params=PYTHONS)
def environment(request, tmp_path_factory, built):
    """An empty environment with the wheel alone; its folder of programs, and how an extra is added."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} here")
    folder = tmp_path_factory.mktemp("environment")
    run(UV, "venv", "--quiet", "--python", python, folder / "venv")
    locked = run(UV, "export", "--frozen", "--all-extras", "--no-dev", "--no-emit-project", "--no-hashes", "--quiet")
    (folder / "locked.txt").write_text(locked)

    def install(extras=""):
        what = f"sentinel-fraud{extras} @ {built['wheel'].as_uri()}"
        run(UV, "pip", "install", "--quiet", "--python", folder / "venv", "--constraint", folder / "locked.txt", what)

    install()
    return folder / "venv" / "bin", install


def test_the_wheel_alone_serves_and_with_its_extras_it_shows_the_demo(environment, tmp_path):
    programs, install = environment
    sentinel, home = programs / "sentinel", tmp_path / "home"
    assert run(sentinel, "--version") == "sentinel 9.8.7\n"
    assert "doctor" in run(sentinel, "--help")
    run(programs / "python", "-c", "import sentinel.app, sentinel.serve.queue, sentinel.transport.http.api")
    examined = run(sentinel, "doctor", "--home", home, "--port", free_port("127.0.0.1"), cwd=tmp_path)
    assert "Traceback" not in examined
    refused = run(sentinel, "demo", "--home", home, cwd=tmp_path, code=1)
    assert "pip install 'sentinel-fraud[train]'" in " ".join(refused.split())
    assert "Traceback" not in refused

    install("[train,console]")
    few = ("--seconds", "5", "--transactions", "20000", "--rate", "50")
    shown = until_compiled(sentinel, "demo", *few, "--port", free_port("127.0.0.1"), "--home", home, cwd=tmp_path)
    assert re.search(r"console http://127\.0\.0\.1:\d+ +log in as admin", shown)
    summary = json.loads(next(line for line in shown.splitlines() if line.startswith("{")))
    assert summary["decisions"] > 0
    assert summary["errors"] == 0

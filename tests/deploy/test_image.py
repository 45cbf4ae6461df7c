"""The images, built and run: what they have and lack, and a server in one that is restricted as operators restrict it."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from deploy.image import base
from deploy.image.build import build, is_built, name_of, size_bytes
from deploy.image.engine import EngineFailed, missing, podman
from tests.deploy.container import USER, Container, given_to_the_user

pytestmark = pytest.mark.timeout(3600)  # the image is built first, where it is required
REQUIRED = "image" in os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()
COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "as", "make", "pip", "uv")
OF_TRAINING = ("catboost", "imblearn", "lightgbm", "matplotlib", "mlflow", "onnx", "optuna", "pandas", "polars", "scipy",
               "sklearn", "xgboost")  # fmt: skip
LOOK = f"""
import importlib.util, json, os, shutil, stat
print(json.dumps(dict(
    uid=os.getuid(), gid=os.getgid(),
    compilers=[one for one in {COMPILERS!r} if shutil.which(one)],
    modules=[one for one in {OF_TRAINING!r} if importlib.util.find_spec(one)],
    setuid=[p for folder, _, files in os.walk("/opt") for f in files
            if (p := os.path.join(folder, f)) and os.lstat(p).st_mode & (stat.S_ISUID | stat.S_ISGID)],
    writable=[folder for folder in ("/", "/etc", "/opt/sentinel", "/opt/sentinel/kernels", "/tmp", "/usr", "/var/tmp")
              if os.access(folder, os.W_OK)],
)))
"""


@pytest.fixture(scope="module", params=["serving"])
def image(request):
    """The name of an image. Where it is not built the test is skipped, unless SENTINEL_TEST_REQUIRE has `image`."""
    return required_image(request.param)


def required_image(target):
    problem = missing()
    if problem is not None:
        pytest.fail(problem) if REQUIRED else pytest.skip(problem)
    if REQUIRED:
        try:
            if not base.is_there():
                base.make()
            build(target, base.NAME)
        except EngineFailed as failed:
            pytest.fail(str(failed))
    elif not is_built(target):
        pytest.skip(f"{name_of(target)} is not built here; make image, or SENTINEL_TEST_REQUIRE=image")
    return name_of(target)


@pytest.fixture
def new_container(image):
    made = []

    def make(home, **environment):
        made.append(Container(image, home, **environment))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def home(two_models_home, tmp_path):
    return given_to_the_user(shutil.copytree(two_models_home, tmp_path / f"home-{tmp_path.name}"))


def payment(i):
    when = f"2025-02-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z"
    return {"transaction_id": f"t{i}", "event_time": when, "amount": 10 + i, "card": f"c{i % 9}", "shop": "s"}


def python_in(image, code, *options):
    return podman("run", "--rm", "--pull=never", "--network=none", "--read-only", "--read-only-tmpfs=false",
                  "--cap-drop=all", *options, "--entrypoint", "python", image, "-c", code)  # fmt: skip


def test_it_has_no_compiler_no_training_and_nothing_to_write(image):
    assert json.loads(python_in(image, LOOK)) == {
        "uid": USER, "gid": USER, "compilers": [], "modules": [], "setuid": [], "writable": [],
    }  # fmt: skip


def test_it_is_small(image):
    assert size_bytes("serving") < 650e6


def test_it_says_what_it_is(image):
    (found,) = json.loads(podman("image", "inspect", image))
    labels = found["Labels"]
    kept = ("title", "version", "revision", "created", "licenses", "base.name")
    assert all(labels[f"org.opencontainers.image.{one}"] for one in kept)
    assert (found["Config"]["User"], found["Config"]["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert found["Healthcheck"]["Test"] == ["CMD", "sentinel-health"]


def test_a_restricted_container_decides_and_compiles_nothing(new_container, home):
    container = new_container(home)
    container.start()
    container.wait_until_ready()
    decided = container.ask("/v1/score", [payment(i) for i in range(50)])
    assert {one["decided_by"] for one in decided} == {"model"}
    single = container.ask("/v1/score", payment(60))
    assert (single["decided_by"], container.ask("/v1/decisions/t60")["transaction_id"]) == ("model", "t60")
    assert json.loads(container.run("sentinel-health")) == container.ask("/health/ready")
    podman("healthcheck", "run", container.name)
    status = container.run("python", "-c", "print(open('/proc/1/status').read())")
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert f"Uid:\t{USER}\t{USER}" in status
    assert compiled_in(container) == []


def compiled_in(container):
    """What Numba has compiled in a container that the image did not bring."""
    code = """
import os, pathlib
shipped = pathlib.Path("/opt/sentinel/kernels/x86-64-v3")
named = f"sentinel-kernels-{os.getuid()}-*"
kept = [p for place in ("/dev/shm", "/tmp") for p in pathlib.Path(place).glob(named) if p.is_dir()]
assert len(kept) == 1, kept
names = lambda folder: {str(p.relative_to(folder)) for p in folder.rglob("*.nb[ci]")}
assert names(shipped) and names(shipped) <= names(kept[0])
print("\\n".join(sorted(names(kept[0]) - names(shipped))))
"""
    return container.run("python", "-c", code).split()


def test_sigterm_ends_it_with_nothing_lost_and_it_goes_on_over_the_same_volume(new_container, home):
    container = new_container(home)
    container.start()
    container.wait_until_ready()
    acknowledged, problems, enough, stopping = [], [], threading.Event(), threading.Event()

    def load():
        n = 0
        try:
            while True:
                answers = container.ask("/v1/score", [payment(i) for i in range(n, n + 20)])
                acknowledged.extend(answers)
                n += 20
                if n >= 200:
                    enough.set()
        except OSError as problem:  # it has stopped taking any
            if not stopping.is_set():
                problems.append(problem)
            enough.set()

    loading = threading.Thread(target=load)
    loading.start()
    assert enough.wait(120)
    stopping.set()
    assert container.stop() == 0, container.log()
    loading.join(120)
    assert not loading.is_alive()
    assert problems == []
    assert "Traceback" not in container.log()
    podman("start", container.name)
    container.wait_until_ready()
    for begin in range(0, len(acknowledged), 500):
        part = acknowledged[begin : begin + 500]
        again = container.ask("/v1/score", [payment(int(one["transaction_id"][1:])) for one in part])
        assert all(one["replayed"] for one in again)
        assert [one["fraud_probability"] for one in again] == [one["fraud_probability"] for one in part]


def test_sigterm_is_heard_from_the_first_moment(new_container, home):
    container = new_container(home)
    container.start()
    end_s = time.monotonic() + 60
    while not hears(signal.SIGTERM, pid := container.state()["Pid"]):
        assert time.monotonic() < end_s, f"{pid}: {container.log()}"
        time.sleep(0.01)
    assert container.stop() == 0, container.log()


def hears(what, pid):
    """Whether a process does something of its own about a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    handled = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(handled, 16) >> (what - 1) & 1)


def test_the_limit_of_memory_holds(image):
    with pytest.raises(EngineFailed, match="ended with 137"):
        python_in(image, "x = bytearray(1); x = b'x' * (400 << 20); print(len(x))", "--memory=64m", "--memory-swap=64m")
    assert python_in(image, "print(len(b'x' * (20 << 20)))", "--memory=64m", "--memory-swap=64m") == str(20 << 20)

"""What would be applied to a cluster: settings that exist, secrets by reference, rules that find what is planted."""

import copy
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from sentinel.cli.root import app
from sentinel.commands.keys import create_key
from sentinel.config import Settings, read_settings
from sentinel.environment import OF_KAFKA
from sentinel.record.kafka.place import Place, place_in
from sentinel.transport.access.store import KeyStore

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s"
CHART = ROOT / "deploy" / "helm" / "sentinel"
PAGE = ROOT / "docs" / "kubernetes.md"
MAKE_HOME = FOLDER / "overlays" / "owner-standby" / "make_home.py"
SIZES = ("embedded", "owner-standby", "wide")
VARIABLE = re.compile(r"\bSENTINEL_[A-Z_]+[A-Z]\b")
SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN)$|_KEY$|_(DATABASE|REDIS|SMTP)_URL$")


def module(path):
    """A file of `deploy/` or of this folder, none of which is a package."""
    place = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(place)
    place.loader.exec_module(made)
    return made


PLANTED = module(Path(__file__).with_name("planted_faults.py")).PLANTED


def documents():
    """Every object and every patch as they are written, with the file of each."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text()):
            yield path.relative_to(FOLDER).as_posix(), one


def containers():
    """Every container of every object and patch."""
    for name, one in documents():
        pod = one.get("spec", {}).get("template", {}).get("spec", {}) if isinstance(one.get("spec"), dict) else {}
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            yield f"{name}: {container['name']}", container


def settings_given():
    """The settings that each size has in its config map."""
    for name, one in documents():
        for generator in one.get("configMapGenerator", []):
            for literal in generator.get("literals", []):
                yield name, *literal.split("=", 1)


def known_settings():
    return set(re.findall(r"(?m)^# (SENTINEL_\w+)=", (ROOT / ".env.example").read_text()))


def strangers(text, known):
    """Names of variables that are no settings, neither ours nor of Kafka's client."""
    return {one for one in VARIABLE.findall(text) if one not in known and not one.startswith(OF_KAFKA)}


def test_every_variable_is_a_setting():
    known = known_settings()
    assert {f"SENTINEL_{name.upper()}" for name in Settings.__struct_fields__} == known
    for path in [*FOLDER.rglob("*.yaml"), *FOLDER.rglob("*.py"), *CHART.rglob("*.yaml"), PAGE]:
        assert strangers(path.read_text(), known) == set(), path
    assert strangers("SENTINEL_REDIS_ADDRESS=x SENTINEL_KAFKA=y", known) == {"SENTINEL_REDIS_ADDRESS"}


def test_the_settings_of_each_size_are_taken():
    given = list(settings_given())
    assert {name for name, *_ in given} >= {"base/kustomization.yaml", "overlays/wide/kustomization.yaml"}
    base = {variable: value for name, variable, value in given if name.startswith("base")}
    for size in ("owner-standby", "wide"):
        own = {variable: value for name, variable, value in given if size in name}
        read_settings({}, base | own)
    assert read_settings({}, base).cases


def test_what_is_secret_is_taken_from_a_secret():
    seen = set()
    for name, container in containers():
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]):
                seen.add(variable["valueFrom"]["secretKeyRef"]["key"])
                assert "value" not in variable, name
    assert seen == {"admin-key", "hash-key", "fronts-key", "database-url", "redis-url"}
    assert [variable for _, variable, _ in settings_given() if SECRET.search(variable)] == []
    assert [name for name, one in documents() if one.get("kind") == "Secret"] == []
    assert seen <= set(re.findall(r"--from-literal=([\w-]+)=", PAGE.read_text())), "the page says how each is made"


def test_every_container_runs_a_command_that_there_is():
    root = typer.main.get_command(app)
    n = 0
    for name, container in containers():
        words = [one for one in container.get("args", []) if not one.startswith("-")]
        if words:
            n += 1
            command = root.commands[words[0]]
            if len(words) > 1 and hasattr(command, "commands"):
                assert words[1] in command.commands, name
    assert n >= 8
    wait_for = "serve", "consume", "console", "topics check", "topics create", "views upgrade"
    assert {" ".join(container.get("args", [])) for _, container in containers()} >= set(wait_for)


def test_there_is_time_to_end():
    defaults = Settings()
    needed = defaults.shutdown_s + defaults.last_snapshot_s
    graces = [
        one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for _, one in documents()
        if one.get("kind") in {"StatefulSet", "Deployment"}
        and "terminationGracePeriodSeconds" in one["spec"]["template"]["spec"]
        and one["metadata"]["name"] != "sentinel-console"
    ]
    assert len(graces) == 2
    assert min(graces) >= needed + 10 + 5  # a front sleeps for ten seconds before


def test_all_of_it_is_of_one_version():
    (version,) = {image["newTag"] for _, one in documents() for image in one.get("images", [])}
    assert f'IMAGE = "sentinel-serving:{version}"' in (FOLDER / "cluster.py").read_text()
    chart, values = (yaml.safe_load((CHART / name).read_text()) for name in ("Chart.yaml", "values.yaml"))
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert values["image"].endswith(f":{version}")
    (argo,) = [one for _, one in documents() if one.get("kind") == "Application"]
    assert argo["spec"]["source"]["targetRevision"] == f"v{version}"
    assert (ROOT / argo["spec"]["source"]["path"] / "kustomization.yaml").exists()


def test_the_autoscaler_counts_by_what_a_front_exports_and_the_adapter_has():
    (scaler,) = [one for _, one in documents() if one.get("kind") == "HorizontalPodAutoscaler"]
    (name,) = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
    adapter = yaml.safe_load((FOLDER / "monitoring" / "prometheus-adapter.yaml").read_text())
    assert [rule["name"]["as"] for rule in adapter["rules"]["custom"]] == [name]
    assert f'"{name}"' in (ROOT / "src" / "sentinel" / "telemetry" / "prometheus.py").read_text()


def made_home(home, *arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    return subprocess.run(
        [sys.executable, str(MAKE_HOME), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=inherited | {"SENTINEL_HOME": str(home)} | environment,
    )  # fmt: skip


def test_a_home_gets_the_keys_as_a_server_takes_them_and_where_the_log_is(tmp_path):
    create_key(read_settings({"home": tmp_path / "made"}, {}), "shop", "score", "90d", None, None)
    keys = tmp_path / "made" / "access" / "keys.json"
    keys.chmod(0o440)  # as a mounted secret is
    home = tmp_path / "volume" / "home"
    done = made_home(
        home, "--log", "--keys", keys, SENTINEL_LOG="kafka", SENTINEL_KAFKA="k:9092", SENTINEL_KAFKA_PREFIX="a."
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE((home / "access").stat().st_mode) == 0o700
    assert [key.name for key in KeyStore(home).read().keys] == ["shop"]
    assert place_in(home) == Place("k:9092", "a.")

    again = made_home(home, "--keys", tmp_path / "nowhere.json")
    assert again.returncode == 0, again.stderr
    assert [key.name for key in KeyStore(home).read().keys] == ["shop"]


def test_a_log_that_is_not_in_kafka_is_not_noted(tmp_path):
    done = made_home(tmp_path / "home", "--log")
    assert done.returncode == 1
    assert "SENTINEL_LOG=kafka" in done.stderr
    assert place_in(tmp_path / "home") is None


def required(what):
    return what in os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()


@pytest.fixture(scope="module")
def chart(environment_of):
    """Writes the chart, and builds folders of Kustomize, by the kubectl of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{environment_of('kubernetes') / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield module(ROOT / "deploy" / "helm" / "write_chart.py")


@pytest.fixture(scope="module")
def built(chart):
    """What each size is built of."""
    return {size: chart.built(FOLDER / "overlays" / size) for size in SIZES}


@pytest.fixture(scope="module")
def checked(environment_of):
    """Calls a function of check.py with each of several lists of objects, in the environment that has what it needs."""
    python = environment_of("kubernetes") / "bin" / "python"
    program = "import check, json, sys; print(json.dumps([list(getattr(check, sys.argv[1])(one)) for one in json.load(sys.stdin)]))"

    def run(function, many):
        done = subprocess.run(
            [python, "-c", program, function],
            input=json.dumps(many), capture_output=True, text=True, timeout=240, cwd=FOLDER,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return run


def test_every_size_is_what_the_schemas_and_the_rules_take(built, checked):
    for function in ("faults_of_kinds", "faults_of_policy"):
        assert checked(function, list(built.values())) == [[], [], []]


def test_a_field_that_there_is_not_is_found(built, checked):
    objects = copy.deepcopy(built["wide"])
    stateful = next(one for one in objects if one["kind"] == "StatefulSet")
    stateful["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    ((fault,),) = checked("faults_of_kinds", [objects])
    assert "livenesProbe" in fault


@pytest.fixture(scope="module")
def found(built, checked):
    """What the rules say of each planted fault."""
    planted = []
    for plant, _ in PLANTED.values():
        objects = copy.deepcopy(built["wide"])
        plant(objects)
        planted.append(objects)
    return dict(zip(PLANTED, checked("faults_of_policy", planted), strict=True))


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(found, fault):
    assert any(PLANTED[fault][1] in said for said in found[fault]), found[fault]


def test_every_rule_finds_one_of_them(found):
    texts = "".join(path.read_text() for path in (FOLDER / "policy").glob("*.rego"))
    rules = re.findall(r'(?s)deny contains msg if \{.*?msg := (?:sprintf\()?"(.*?)"', texts)
    assert len(rules) == texts.count("deny contains")
    said = "\n".join(one for faults in found.values() for one in faults)
    silent = [rule for rule in rules if not re.search(re.escape(rule).replace("%s", ".*"), said)]
    assert silent == []


def test_the_chart_is_what_is_written(chart):
    for path, text in chart.written().items():
        assert path.read_text() == text, "python deploy/helm/write_chart.py writes it anew"
    assert {path.name for path in (CHART / "templates").iterdir()} == {path.name for path in chart.written()}


@pytest.fixture(scope="module")
def helm():
    found = shutil.which("helm")
    if found is None:
        missing = "there is no helm here: go install helm.sh/helm/v3/cmd/helm@v3.18.4"
        pytest.fail(missing) if required("helm") else pytest.skip(missing)

    def template(*values):
        return subprocess.run(
            [found, "template", "sentinel", str(CHART), "--namespace", "sentinel", "--kube-version", "1.34", *values],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return template


@pytest.mark.parametrize("size", SIZES)
def test_helm_makes_of_the_chart_what_kustomize_builds(helm, chart, built, checked, size):
    done = helm("--set", f"size={size}")
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert checked("faults_of_kinds", [objects]) == [[]]

    def comparable(many):
        kept = [copy.deepcopy(chart._renamed(one)) for one in many if one["kind"] != "Namespace"]
        for one in kept:
            one.get("spec", {}).get("template", {}).get("metadata", {}).pop("annotations", None)
            one["metadata"]["name"] = re.sub(r"-1$", "", one["metadata"]["name"])
        return {(one["kind"], one["metadata"]["name"]): one for one in kept}

    assert comparable(objects) == comparable(built[size])


def test_helm_refuses_a_value_that_is_none(helm):
    assert helm("--set", "size=large").returncode != 0
    assert helm("--set", "settings.SENTINEL_ADMIN_KEY=0123456789abcdef").returncode != 0

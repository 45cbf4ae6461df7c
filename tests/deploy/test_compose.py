"""The stack of deploy/compose.yaml: laws that every service keeps, and the commands around it. Nothing is started."""

import copy
import json
import os
import stat
import subprocess
import sys

import pytest
import yaml

from deploy.compose.addresses import addresses_of_services, settings_of
from deploy.compose.engine import Container, Engine, find_engine
from deploy.compose.passwords import MADE, StackFailed, keep_passwords, read_private
from deploy.compose.stack import FILE, PROFILES, SERVICES_FILE, Stack, first_log_in, levels, wanted_services
from sentinel.config import read_settings
from services.keeper import Keeper
from services.service import Running
from tests.deploy import compose_laws as laws

STACK = yaml.safe_load(FILE.read_text())
PLANTED = {
    laws.every_service_has_a_health_check: ("owner", {"healthcheck": {}}),
    laws.every_service_has_limits: ("redis", {"mem_limit": None}),
    laws.images_are_pinned: ("grafana", {"image": "${STACK_GRAFANA_IMAGE:-docker.io/grafana/grafana:latest}"}),
    laws.no_password_is_written_here: ("postgres", {"environment": {"POSTGRES_PASSWORD": "sentinel"}}),
    laws.ports_are_this_machines_alone: ("door", {"ports": ["${STACK_PORT:-8000}:8000"]}),
    laws.ports_are_settings: ("console", {"ports": ["127.0.0.1:8080:8080"]}),
    laws.roots_are_read_only: ("s3", {"read_only": False}),
    laws.capabilities_are_dropped: ("kafka", {"cap_add": ["NET_ADMIN"]}),
    laws.nobody_gains_privileges: ("mlflow", {"security_opt": []}),
    laws.mounts_of_this_folder_are_read_only: ("prometheus", {"volumes": ["./observability:/observability"]}),
    laws.volumes_are_declared: ("standby", {"volumes": ["third:/data"]}),
    laws.dependencies_are_services: ("standby", {"depends_on": {"owner": {"condition": "service_started"}}}),
    laws.settings_are_settings: ("owner", {"environment": {"SENTINEL_DATABASE": "postgresql://x"}}),
    laws.mounted_files_are_there: ("door", {"volumes": ["./compose/elsewhere:/stack:ro"]}),
}


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_stack_keeps_the_law(law):
    assert list(law(STACK)) == []


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_law_finds_a_planted_fault(law):
    name, change = PLANTED[law]
    stack = copy.deepcopy(STACK)
    stack["services"][name] |= change
    if None in change.values():
        stack["services"][name] = {key: value for key, value in stack["services"][name].items() if value is not None}
    assert [found.partition(":")[0] for found in law(stack)] == [name]


def test_a_password_in_an_address_is_found():
    stack = {"services": {"owner": {"environment": {"SENTINEL_REDIS_URL": "redis://default:secret@redis:6379/0"}}}}
    assert list(laws.no_password_is_written_here(stack)) == ["owner: SENTINEL_REDIS_URL"]


def test_what_prometheus_scrapes_are_services_with_a_key_that_a_job_writes():
    path = FILE.parent / "compose" / "mounted" / "prometheus.yml"
    assert laws.scraped(path) == {"owner", "standby"} <= STACK["services"].keys()
    (job,) = yaml.safe_load(path.read_text())["scrape_configs"]
    (of_machine,) = yaml.safe_load((FILE.parent / "observability" / "prometheus.yml").read_text())["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == (of_machine["job_name"], of_machine["metrics_path"])
    key = job["authorization"]["credentials_file"]
    assert key in (path.parent / "first_model.sh").read_text()
    assert "keys:/keys:ro" in STACK["services"]["prometheus"]["volumes"]


def test_every_password_that_is_needed_is_made():
    needed = {word.partition(":?")[0] for word in FILE.read_text().split("${") if ":?" in word.partition("}")[0]}
    assert needed <= set(MADE)


def test_the_settings_are_taken_by_the_server():
    """As the owner's container has them, with what is made put in."""
    given = {name: str(value) for name, value in STACK["services"]["owner"]["environment"].items()}
    for name in MADE:
        given = {key: value.replace(f"${{{name}:?make up makes it}}", "0" * 48) for key, value in given.items()}
    given = {key: value.partition(":-")[2].rstrip("}") if "${" in value else value for key, value in given.items()}
    settings = read_settings({}, given)
    assert (settings.log, settings.needs_keys, settings.cases) == ("kafka", True, True)


def test_services_of_the_host_replace_what_is_foreign():
    on_host = wanted_services((FILE, SERVICES_FILE), ())
    assert set(on_host) == {"volumes", "first-model", "owner", "standby", "projector", "door", "console"}
    assert set(wanted_services((FILE,), ())) - set(on_host) == {
        "kafka", "postgres", "redis", "s3", "mlflow", "prometheus", "grafana",
    }  # fmt: skip


def test_profiles_add_services():
    named = {profile for one in STACK["services"].values() for profile in one.get("profiles", [])}
    assert named == set(PROFILES)
    without = set(wanted_services((FILE,), ()))
    assert set(wanted_services((FILE,), ("topics",))) - without == {"topics"}


@pytest.mark.parametrize("files", [(FILE,), (FILE, SERVICES_FILE)])
def test_what_is_needed_is_started_before(files):
    services = wanted_services(files, PROFILES)
    order = levels(services)
    place = {name: number for number, level in enumerate(order) for name in level}
    assert sorted(place) == sorted(services)
    for name, one in services.items():
        assert all(place[needed] < place[name] for needed in one.get("depends_on", {}) if needed in services)


def test_a_circle_is_told():
    with pytest.raises(StackFailed, match="a, b"):
        levels({"a": {"depends_on": {"b": {}}}, "b": {"depends_on": {"a": {}}}, "c": {}})


def test_passwords_are_made_once_and_are_their_owners_alone(tmp_path):
    path = tmp_path / "made"
    made = keep_passwords(path)
    assert set(made) == set(MADE)
    assert len(set(made.values())) == len(MADE)
    assert all(value.isalnum() and len(value) >= 32 for value in made.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert keep_passwords(path) == made
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["made"]


def test_a_password_that_a_newer_version_needs_is_added(tmp_path):
    path = tmp_path / "made"
    path.touch(mode=0o600)
    path.write_text("# mine\nSTACK_ADMIN_KEY=kept\nSTACK_MORE=too\n")
    made = keep_passwords(path, lambda _size: "new")
    assert made == {"STACK_ADMIN_KEY": "kept", "STACK_MORE": "too"} | dict.fromkeys(MADE[1:], "new")
    assert read_private(path) == made


def test_a_file_that_others_read_or_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "made"
    path.write_text("STACK_ADMIN_KEY=kept\n")
    path.chmod(0o644)
    with pytest.raises(StackFailed, match="chmod 600"):
        keep_passwords(path)
    path.chmod(0o600)
    path.write_text("STACK_ADMIN_KEY=kept\nSTACK_HA")
    with pytest.raises(StackFailed, match="line 2"):
        keep_passwords(path)
    assert path.read_text() == "STACK_ADMIN_KEY=kept\nSTACK_HA"


def test_without_an_engine_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deploy.compose.engine.ROOT", tmp_path)
    with pytest.raises(StackFailed, match="Docker with its Compose plugin; or podman"):
        find_engine({}, "sentinel")
    with pytest.raises(StackFailed, match="STACK_ENGINE is 'nerdctl'"):
        find_engine({"STACK_ENGINE": "nerdctl"}, "sentinel")


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


def test_docker_is_taken_only_where_it_answers(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("deploy.compose.engine.ROOT", tmp_path)
    program(tmp_path, "docker", "")
    program(tmp_path, "podman", "")
    program(tmp_path, "podman-compose", "")
    assert find_engine({}, "sentinel").program == "docker"
    assert find_engine({"STACK_ENGINE": "podman"}, "sentinel").program == "podman"
    program(tmp_path, "docker", "import sys; sys.exit('info' in sys.argv)")  # its daemon does not run
    assert find_engine({}, "sentinel").program == "podman"


@pytest.mark.parametrize(
    ("state", "code", "checked", "health"),
    [
        ("running", 0, "healthy", "healthy"),
        ("running", 0, "starting", "starting"),
        ("running", 0, "", "running"),
        ("exited", 0, "", "done"),
        ("exited", 3, "", "exited"),
        ("created", 0, "", "created"),
    ],
)
def test_health_is_told_apart(state, code, checked, health):
    engine = Engine("docker", ("docker", "compose"), (), {}, "sentinel")
    assert engine.health(Container("owner", "1", state, code, checked)) == health


def test_an_unknown_profile_is_refused():
    with pytest.raises(StackFailed, match="'spark'; there are tracing, topics"):
        Stack(Engine("docker", (), (), {}, "sentinel"), ["spark"])


def test_services_that_do_not_run_are_named(tmp_path):
    with pytest.raises(StackFailed, match=r'kafka, postgres, redis, s3\. Start them: make services NAMES="kafka'):
        addresses_of_services(Keeper({}, tmp_path))


def test_addresses_are_those_that_servers_take():
    def running(name, **environment):
        return Running(name=name, pid=1, began=1, port=1, url="", environment=environment)

    database = {"PGHOST": "h", "PGPORT": "1", "PGDATABASE": "d", "PGUSER": "u", "PGPASSWORD": "p"}
    found = settings_of(
        {
            "kafka": running("kafka", SENTINEL_KAFKA="k:1"),
            "postgres": running("postgres", **database),
            "redis": running("redis", REDIS_URL="redis://r"),
            "s3": running("s3", AWS_ENDPOINT_URL="http://s", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b"),  # noqa: S106
        }
    )
    assert found["STACK_DATABASE_URL"] == "postgresql://u:p@h:1/d"
    assert "STACK_MLFLOW_URL" not in found
    asked = {
        word.partition(":?")[0] for word in SERVICES_FILE.read_text().split("${") if ":?" in word.partition("}")[0]
    }
    assert asked <= found.keys()


def test_the_first_log_in_is_found_in_what_the_console_says():
    assert (
        first_log_in("x\nfirst log-in: admin, password a-b-c (shown)\ny")
        == "first log-in: admin, password a-b-c (shown)"
    )
    assert first_log_in("http://127.0.0.1:8080, home /data") is None


def test_down_asks_before_it_deletes(tmp_path):
    """With an engine that notes what it is told."""
    program(
        tmp_path, "docker", f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    )
    made = tmp_path / "made"
    keep_passwords(made)
    command = [sys.executable, "-m", "deploy.compose", "--passwords", str(made), "down", "--volumes"]
    environment = {**os.environ, "PATH": str(tmp_path), "STACK_ENGINE": "docker"}

    def down(*more, said=""):
        return subprocess.run(
            [*command, *more], input=said, capture_output=True, text=True, env=environment, cwd=FILE.parents[1]
        )

    done = down(said="y\n")
    assert done.returncode == 1, done.stderr
    assert "nothing is deleted" in done.stderr
    assert " down" not in (tmp_path / "told").read_text()
    assert down(said="yes\n").returncode == 0
    assert down("--yes").returncode == 0
    told = [line for line in (tmp_path / "told").read_text().splitlines() if " down" in line]
    assert [line.split()[-2:] for line in told] == [["down", "--volumes"]] * 2


def test_status_without_a_stack_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "deploy.compose", "--passwords", str(tmp_path / "none"), "status", "--json"],
        capture_output=True, text=True, cwd=FILE.parents[1],
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "make up" in done.stderr
    assert json.dumps({"services": []}) not in done.stderr


def made_up():
    """The environment with every setting that the files insist on."""
    named = {word.partition(":?")[0] for path in (FILE, SERVICES_FILE) for word in path.read_text().split("${")}
    return {
        **os.environ,
        **{name: "x" for name in named if name.startswith("STACK_") and name.replace("_", "").isalnum()},
    }


@pytest.mark.parametrize("path", [FILE, SERVICES_FILE], ids=lambda path: path.name)
def test_the_files_are_of_the_schema_of_compose(environment_of, path, tmp_path):
    program = environment_of("compose") / "bin" / "check-jsonschema"
    text = path.read_text().replace("!reset ", "")
    for name, said, code in (("good", text, 0), ("bad", text.replace("network_mode:", "network_modus:"), 1)):
        (tmp_path / f"{name}.yaml").write_text(said)
        done = subprocess.run(
            [program, "--builtin-schema", "vendor.compose-spec", tmp_path / f"{name}.yaml"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout


def test_podman_compose_reads_the_same_services(environment_of):
    program = environment_of("compose") / "bin" / "podman-compose"
    files = ["-f", str(FILE), "-f", str(SERVICES_FILE)]
    done = subprocess.run([program, *files, "config"], capture_output=True, text=True, env=made_up())
    assert done.returncode == 0, done.stderr[-2000:]
    read = yaml.safe_load(done.stdout)["services"]
    assert set(read) == set(wanted_services((FILE, SERVICES_FILE), ()))
    assert all(one.get("network_mode") == "host" for name, one in read.items() if name != "volumes")
    without = subprocess.run(
        [program, "-f", str(FILE), "config"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    assert without.returncode != 0
    assert "make up makes it" in without.stderr

"""What holds for every service of a compose file: each law says who breaks it."""

import ipaddress
import re
from pathlib import Path

import yaml

from sentinel.config import Settings

ROOT = Path(__file__).parents[2]
_SECRET = re.compile(r"(PASSWORD|SECRET|ADMIN_KEY|HASH_KEY|ACCESS_KEY|AUTH)(_ID)?$")
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:([^@/\s]+)@")
_MADE = re.compile(r"\$\{STACK_[A-Z0-9_]+:\?[^}]+\}")
_TAG = re.compile(r"[\w.-]+")


def every_service_has_a_health_check(stack):
    for name, one in stack["services"].items():
        check = one.get("healthcheck", {})
        ends = one.get("restart") == "no" and check.get("disable")
        if not ends and (not check.get("test") or "interval" not in check):
            yield name


def every_service_has_limits(stack):
    for name, one in stack["services"].items():
        if not {"cpus", "mem_limit", "pids_limit"} <= one.keys():
            yield name


def images_are_pinned(stack):
    """By a version, and for those of ours by the name of what `make image` builds."""
    for name, one in stack["services"].items():
        found = re.fullmatch(r"\$\{STACK_[A-Z0-9]+_IMAGE:-(.+)\}", one.get("image", ""))
        tag = found[1].rpartition(":")[2] if found and ":" in found[1].rpartition("/")[2] else ""
        is_ours = bool(found) and found[1] in ("localhost/sentinel:serving", "localhost/sentinel:training")
        if not is_ours and not (_TAG.fullmatch(tag) and any(letter.isdigit() for letter in tag)):
            yield name


def no_password_is_written_here(stack):
    for name, one in stack["services"].items():
        for variable, value in one.get("environment", {}).items():
            said = str(value)
            if _SECRET.search(variable) and said and not _MADE.fullmatch(said) and variable != "SENTINEL_AUTH":
                yield f"{name}: {variable}"
            yield from (
                f"{name}: {variable}"
                for password in _URL_WITH_PASSWORD.findall(re.sub(_MADE, "made", said))
                if password != "made"  # noqa: S105 - what was put in above
            )


def ports_are_this_machines_alone(stack):
    for name, one in stack["services"].items():
        for port in one.get("ports", []):
            host = str(port).partition(":")[0]
            try:
                if not ipaddress.ip_address(host).is_loopback:
                    yield f"{name}: {port}"
            except ValueError:
                yield f"{name}: {port}"


def ports_are_settings(stack):
    for name, one in stack["services"].items():
        yield from (f"{name}: {port}" for port in one.get("ports", []) if "${STACK_" not in str(port))


def roots_are_read_only(stack):
    return (name for name, one in stack["services"].items() if one.get("read_only") is not True)


def capabilities_are_dropped(stack):
    for name, one in stack["services"].items():
        may = set(one.get("cap_add", []))
        if one.get("cap_drop") != ["ALL"] or may - ({"CHOWN"} if name == "volumes" else set()) or one.get("privileged"):
            yield name


def nobody_gains_privileges(stack):
    return (
        name for name, one in stack["services"].items() if "no-new-privileges:true" not in one.get("security_opt", [])
    )


def mounts_of_this_folder_are_read_only(stack):
    for name, one in stack["services"].items():
        yield from (
            f"{name}: {mount}" for mount in one.get("volumes", []) if mount[0] in "./" and not mount.endswith(":ro")
        )


def volumes_are_declared(stack):
    for name, one in stack["services"].items():
        for mount in one.get("volumes", []):
            if mount[0] not in "./" and mount.partition(":")[0] not in stack["volumes"]:
                yield f"{name}: {mount}"


def dependencies_are_services(stack):
    for name, one in stack["services"].items():
        for needed, how in one.get("depends_on", {}).items():
            ends = stack["services"].get(needed, {}).get("restart") == "no"
            wanted = "service_completed_successfully" if ends else "service_healthy"
            if needed not in stack["services"] or how.get("condition") != wanted:
                yield f"{name}: {needed}"


def settings_are_settings(stack):
    """Every SENTINEL_... is one that there is, with a value that it takes."""
    fields = set(Settings.__struct_fields__)
    for name, one in stack["services"].items():
        for variable in one.get("environment", {}):
            of_kafka = variable.startswith("SENTINEL_KAFKA_")
            if (
                variable.startswith("SENTINEL_")
                and not of_kafka
                and variable.removeprefix("SENTINEL_").lower() not in fields
            ):
                yield f"{name}: {variable}"


def mounted_files_are_there(stack):
    for name, one in stack["services"].items():
        for mount in one.get("volumes", []):
            if mount[0] == "." and not (ROOT / "deploy" / mount.split(":")[0]).exists():
                yield f"{name}: {mount}"


LAWS = (
    every_service_has_a_health_check, every_service_has_limits, images_are_pinned, no_password_is_written_here,
    ports_are_this_machines_alone, ports_are_settings, roots_are_read_only, capabilities_are_dropped,
    nobody_gains_privileges, mounts_of_this_folder_are_read_only, volumes_are_declared, dependencies_are_services,
    settings_are_settings, mounted_files_are_there,
)  # fmt: skip


def scraped(path: Path) -> set[str]:
    """The hosts that a configuration of Prometheus scrapes."""
    jobs = yaml.safe_load(path.read_text())["scrape_configs"]
    return {
        target.partition(":")[0] for job in jobs for static in job["static_configs"] for target in static["targets"]
    }

"""What an image consists of, as CycloneDX: every package of Debian and of Python in it, read from the image itself."""

import json
from typing import Any

from deploy.image.engine import podman

LOOK = r"""
import importlib.metadata, json
debian = []
for block in open("/var/lib/dpkg/status", encoding="utf-8").read().split("\n\n"):
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
    if fields.get("Status") == "install ok installed":
        debian.append([fields["Package"], fields["Version"], fields["Architecture"]])
python = []
for one in importlib.metadata.distributions(path=["%s"]):
    said = one.metadata
    licence = said.get("License-Expression") or ""
    classified = [line for line in said.get_all("Classifier") or () if line.startswith("License ::")]
    python.append([one.name, one.version, licence, classified])
print(json.dumps({"debian": sorted(debian), "python": sorted(python)}))
"""
_PACKAGES = "/opt/sentinel/lib/python3.11/site-packages"


def found_in(image: str) -> dict[str, list[list[Any]]]:
    """The packages of an image: `debian` name, version and architecture; `python` name, version, licences."""
    found: dict[str, list[list[Any]]] = json.loads(
        podman("run", "--rm", "--pull=never", "--network=none", "--entrypoint", "python", image, "-c", LOOK % _PACKAGES)
    )
    return found


def bill_of_materials(image: str, version: str) -> dict[str, Any]:
    """The SBOM of an image, as CycloneDX 1.6; nothing in it changes from one call to the next."""
    found = found_in(image)
    debian = [
        {
            "type": "library", "bom-ref": f"deb-{name}-{architecture}", "name": name, "version": version_there,
            "purl": f"pkg:deb/debian/{name}@{_quoted(version_there)}?arch={architecture}&distro=debian-12",
        }
        for name, version_there, architecture in found["debian"]
    ]  # fmt: skip
    python = [
        {
            "type": "library", "bom-ref": f"py-{name}", "name": name, "version": version_there,
            "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version_there}",
            "licenses": _licences(expression, classified),
        }
        for name, version_there, expression, classified in found["python"]
    ]  # fmt: skip
    about = {"type": "container", "bom-ref": "image", "name": image, "version": version}
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": about},
        "components": debian + python,
    }  # fmt: skip


def _licences(expression: str, classified: list[str]) -> list[dict[str, Any]]:
    if expression:
        return [{"expression": expression}]
    return [{"license": {"name": one}} for one in classified]


def _quoted(version: str) -> str:
    return version.replace("+", "%2B").replace(":", "%3A").replace("~", "~")

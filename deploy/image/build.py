"""`make image`: builds the images with buildah, and writes what is in them to `dist/`.

Without `--base` the one of base.py is made, if it is not there. Another one has to be named by its digest.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from deploy.image import base
from deploy.image.contents import bill_of_materials
from deploy.image.engine import ROOT, EngineFailed, buildah, missing, podman

TARGETS = ("serving", "training")
SERVING = ("console", "kafka", "oidc", "postgres", "redis", "s3", "tracing")
TRAINING = ("catboost", "mlflow", "train")
UV_VERSION = "0.13.9"
FILE = Path(__file__).with_name("Containerfile")
_CERTIFICATES = Path("/etc/ssl/certs")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def name_of(target: str) -> str:
    """What a target is called here."""
    return f"localhost/sentinel:{target}"


def checked_base(reference: str) -> str:
    """A base by its digest, or one made here. Raises EngineFailed for a name that means something else tomorrow."""
    if not _DIGEST.search(reference) and not reference.startswith("localhost/"):
        raise EngineFailed(f"{reference} may be another image tomorrow: add @sha256: and its digest")
    return reference


def build(target: str, base_image: str) -> None:
    """Build a target and give it its name. Raises EngineFailed."""
    arguments = {
        "BASE": base_image,
        "UV_VERSION": UV_VERSION,
        "SERVING_EXTRAS": _extras(SERVING),
        "KERNELS_EXTRAS": _extras((*SERVING, "train")),
        "TRAINING_EXTRAS": _extras(SERVING + TRAINING),
        "SOURCE_DATE_EPOCH": str(_committed_s()),
        "VERSION": version(),
        **{name: os.environ[name] for name in ("PIP_CERT", "SSL_CERT_FILE") if name in os.environ},
    }
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    labels = [word for name, value in labels_of(target, base_image).items() for word in ("--label", f"{name}={value}")]
    volumes = ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"] if _CERTIFICATES.is_dir() else []
    pulled = "--pull-never" if base_image.startswith("localhost/") else "--pull"
    buildah(
        "build", "--isolation", "chroot", "--network", "host", pulled, "--layers", "--format", "docker", *volumes,
        *given, *labels, "--target", target, "--tag", name_of(target), "--file", FILE, "--ignorefile",
        FILE.with_name("ignored"), ROOT,
    )  # fmt: skip


def labels_of(target: str, base_image: str) -> dict[str, str]:
    """What an image says of itself, by the names of the OCI's image specification."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made = datetime.fromtimestamp(_committed_s(), UTC)
    return {
        f"org.opencontainers.image.{name}": value
        for name, value in {
            "title": f"sentinel, {target}", "description": project["description"], "version": version(),
            "licenses": project["license"], "revision": _git("rev-parse", "HEAD"), "created": made.isoformat(),
            "base.name": base_image,
        }.items()
    }  # fmt: skip


def version() -> str:
    """The project's version: what pyproject.toml says, or the newest tag, or how many commits there are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if "version" in project:
        return str(project["version"])
    tags = _git("tag", "--merged", "HEAD", "--sort=-version:refname", "--list", "v[0-9]*").split()
    commits, commit = _git("rev-list", "--count", f"{tags[0]}..HEAD" if tags else "HEAD"), _git("rev-parse", "HEAD")[:9]
    if not tags:
        return f"0.1.dev{commits}+g{commit}"
    return tags[0][1:] if commits == "0" else f"{tags[0][1:]}.post{commits}+g{commit}"


def _extras(names: tuple[str, ...]) -> str:
    return " ".join(f"--extra {name}" for name in names)


def _committed_s() -> int:
    return int(_git("log", "-1", "--format=%ct"))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def is_built(target: str) -> bool:
    """Whether the image is here."""
    return name_of(target) in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def size_bytes(target: str) -> int:
    """What an image takes on a disk, unpacked, with its base."""
    return int(json.loads(podman("image", "inspect", name_of(target)))[0]["Size"])


def write_contents(target: str) -> Path:
    """Write the SBOM of an image that was built; where."""
    path = ROOT / "dist" / f"image-{target}.cdx.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(bill_of_materials(name_of(target), version()), indent=1))
    return path


def main() -> int:
    """Build what is asked for; 1 and a sentence where that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=TARGETS, help="which one; without, both")
    parser.add_argument("--base", help="another base, as docker.io/library/python:3.11-slim-bookworm@sha256:...")
    parser.add_argument("--fresh-base", action="store_true", help="make the base afresh: with today's updates")
    given = parser.parse_args()
    problem = missing()
    if problem is not None:
        sys.exit(problem)
    try:
        base_image = checked_base(given.base) if given.base else base.NAME
        if given.base is None and (given.fresh_base or not base.is_there()):
            sys.stderr.write("the base is made: some minutes\n")
            base.make()
        for target in given.target or TARGETS:
            sys.stderr.write(f"{name_of(target)} is built: some minutes\n")
            build(target, base_image)
            sys.stdout.write(f"{name_of(target)}: {size_bytes(target) / 1e6:.0f} MB; {write_contents(target)}\n")
    except EngineFailed as failed:
        sys.exit(str(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())

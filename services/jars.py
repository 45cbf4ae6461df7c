"""Java's libraries, by a list that pins each by its SHA-256: from Maven Central over HTTPS, or through `mvn`.

A line of a list is a checksum and a path below a Maven repository. Whose Maven is set up for a mirror has `mvn` fetch
them; without `mvn` they are fetched from MAVEN_REPOSITORY, which is Maven Central unless it is set.
"""

import hashlib
import os
import shutil
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from services.service import ServiceFailed

REPOSITORY = "MAVEN_REPOSITORY"
_CENTRAL = "https://repo1.maven.org/maven2"
_AT_ONCE = 8
_PATIENCE_S = 60.0


class Jar(NamedTuple):
    """One library: group/artifact/version/file below a repository, and the checksum of the file."""

    sha256: str
    path: str

    @property
    def name(self) -> str:
        """Its file name, which no other jar of a list has."""
        return self.path.rpartition("/")[2]

    @property
    def coordinates(self) -> tuple[str, str, str]:
        """Its group, artifact and version."""
        *group, artifact, version, _ = self.path.split("/")
        return ".".join(group), artifact, version


def listed(path: Path) -> list[Jar]:
    """The jars of a list."""
    return [Jar(*line.split()) for line in path.read_text().splitlines()]


def fetch(jars: list[Jar], folder: Path) -> None:
    """Have all of them in a folder, as they are listed. Raises ServiceFailed when one cannot be had, or is another."""
    missing = [one for one in jars if not _is_there(one, folder)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    mvn = shutil.which("mvn")
    if mvn is not None and REPOSITORY not in os.environ:
        _through_maven(mvn, missing, folder)
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda one: _download(one, folder), missing))
    others = [one.name for one in missing if not _is_there(one, folder)]
    if others:
        raise ServiceFailed(f"{', '.join(others)} in {folder}: not what services lists by checksum; nothing is started")


def _is_there(jar: Jar, folder: Path) -> bool:
    path = folder / jar.name
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _download(jar: Jar, folder: Path) -> None:
    url = f"{os.environ.get(REPOSITORY, _CENTRAL).rstrip('/')}/{jar.path}"
    partly = folder / f"{jar.name}.part"
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer, partly.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise ServiceFailed(
            f"{url} cannot be fetched: {error}; set {REPOSITORY} to a repository of Maven that can be reached, or "
            "install Maven (mvn) and set it up"
        ) from error
    partly.replace(folder / jar.name)


def _through_maven(mvn: str, jars: list[Jar], folder: Path) -> None:
    """Ask for each jar itself: what they depend on is in the list already."""
    pom = folder / "pom.xml"
    pom.write_bytes(_pom_of(jars))
    goal = "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies"
    done = subprocess.run(
        [mvn, "-q", "-B", "-f", str(pom), goal, "-DexcludeTransitive=true", f"-DoutputDirectory={folder}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServiceFailed(
            f"mvn could not fetch them: {(done.stdout + done.stderr).strip()[-600:]}; set {REPOSITORY} to do without it"
        )


def _pom_of(jars: list[Jar]) -> bytes:
    project = ET.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")
    for name, text in (("modelVersion", "4.0.0"), ("groupId", "sentinel"), ("artifactId", "jars"), ("version", "1")):
        ET.SubElement(project, name).text = text
    ET.SubElement(project, "packaging").text = "pom"
    dependencies = ET.SubElement(project, "dependencies")
    for jar in jars:
        dependency = ET.SubElement(dependencies, "dependency")
        for name, text in zip(("groupId", "artifactId", "version"), jar.coordinates, strict=True):
            ET.SubElement(dependency, name).text = text
    return ET.tostring(project)

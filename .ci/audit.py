"""`make audit`: what ships, under which licences, with which known holes, and whether a secret lies among the files.

Every check is tried on a planted fault first: one that does not find it has failed, whatever it says of the rest.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
TOOLS, BIN = ROOT / ".venv-audit" / "bin", ROOT / ".venv" / "bin"
SBOM, BASELINE = ROOT / "dist" / "sbom.cdx.json", ROOT / ".ci" / "secrets.json"
PATIENCE_S = 300
_DECEIVES = re.compile("[\\x00\\x08\\x1a\\x1b\\xad\\u061c\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u2069\\ufeff]")

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "HPND", "ISC",
    "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
    "License :: OSI Approved :: Apache Software License", "License :: OSI Approved :: BSD License",
    "License :: OSI Approved :: ISC License (ISCL)", "License :: OSI Approved :: MIT License",
    "License :: OSI Approved :: Python Software Foundation License",
}  # fmt: skip
EXCEPTIONS = {
    "catboost": "Apache-2.0, as its metadata says in a field that the bill of materials does not read",
    "tqdm": "MIT, and MPL-2.0 for files that nobody changes here; Optuna imports it",
    "psycopg": "LGPL-3.0, used as it is; comes with the extra `postgres` only",
    "psycopg-binary": "the same",
    "protobuf": "BSD-3-Clause, as its LICENSE file says; its metadata says nothing",
    "certifi": "MPL-2.0, used as it is; comes with the extra `tracing` only",
}
VULNERABLE = "jinja2==2.4.1"  # with holes that every database knows: one that knows none of them has not answered
HELD, FAILED, NOT_CHECKED = "held", "FAILED", "not checked"


class Row(NamedTuple):
    """A line of the table."""

    what: str
    result: str
    found: str


class NotChecked(Exception):
    """There was nobody to ask."""


def run(*command: object, expected: tuple[int, ...] = (0,)) -> str:
    """What a tool prints. Raises RuntimeError for another exit code, or when it takes too long."""
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {PATIENCE_S} s") from None
    if done.returncode not in expected:
        raise RuntimeError(f"{Path(str(command[0])).name} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def locked() -> str:
    """Everything that an installation with all extras has, pinned, with hashes."""
    return run(BIN / "uv", "export", "--frozen", "--no-dev", "--all-extras", "--no-emit-project", "--no-header", "-q")


def names_in(requirements: str) -> set[str]:
    """The names of pinned requirements."""
    return {_plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", requirements, re.MULTILINE)}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def bill_of_materials() -> str:
    """Write dist/sbom.cdx.json: what of the lock is installed here, as CycloneDX."""
    shipped = names_in(locked())
    whole: dict[str, Any] = json.loads(run(TOOLS / "cyclonedx-py", "environment", BIN / "python", "--of", "JSON"))
    whole["components"] = [one for one in whole["components"] if _plain(one["name"]) in shipped]
    kept = {one["bom-ref"] for one in whole["components"]}
    whole["dependencies"] = [one for one in whole.get("dependencies", ()) if one["ref"] in kept]
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(whole, indent=1))
    found = {_plain(one["name"]) for one in whole["components"]}
    if not {"numpy", "msgspec", "onnxruntime", "xgboost-cpu"} <= found:
        raise RuntimeError(f"the environment lacks what ships; it has {len(found)} of {len(shipped)} packages")
    return (
        f"{len(found)} packages in {SBOM.relative_to(ROOT)}; {len(shipped - found)} of the lock are for other systems"
    )


def licences_of(component: dict[str, Any]) -> list[str]:
    """What a component of an SBOM says of its licences: SPDX ids, expressions, or names."""
    said = component.get("licenses", [])
    return [
        one.get("expression") or one.get("license", {}).get("id") or one.get("license", {}).get("name") or "nothing"
        for one in said
    ]


def is_permissive(licence: str) -> bool:
    """Whether a licence, or every one of an expression, or one of several to choose from, is on the list."""
    if licence in PERMISSIVE:
        return True
    parts = [one.strip(" ()") for one in re.split(r" AND | OR ", licence)]
    allowed = [one in PERMISSIVE for one in parts]
    return any(allowed) if " OR " in licence and " AND " not in licence else all(allowed)


def forbidden(components: list[dict[str, Any]]) -> list[str]:
    """The components that are not permissive, with what they say."""
    found = []
    for one in components:
        licences = licences_of(one)
        if _plain(one["name"]) not in EXCEPTIONS and not (licences and all(map(is_permissive, licences))):
            found.append(f"{one['name']} ({', '.join(licences) or 'says nothing'})")
    return found


def licences() -> str:
    """Every package is under a permissive licence."""
    components = json.loads(SBOM.read_text())["components"]
    planted = {"name": "planted", "licenses": [{"license": {"id": "GPL-3.0-only"}}]}
    if forbidden([*components, planted])[-1:] != ["planted (GPL-3.0-only)"]:
        raise RuntimeError("a planted GPL-3.0 package is not found")
    wrong = forbidden(components)
    if wrong:
        raise RuntimeError(f"not permissive: {', '.join(wrong)}")
    excepted = sorted({_plain(one["name"]) for one in components} & EXCEPTIONS.keys())
    return f"{len(components)} permissive, by name: {', '.join(excepted) or 'none'}"


def holes() -> str:
    """No locked version has a known vulnerability; NotChecked where no database answers."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "requirements.txt"
        pinned.write_text(f"{VULNERABLE}\n")
        if not holes_of(pinned):
            raise NotChecked(f"no database here knows the holes of {VULNERABLE}")
        pinned.write_text(locked())
        found = holes_of(pinned, strict=True)
    if found:
        raise RuntimeError(", ".join(found))
    return "no known vulnerability"


def holes_of(pinned: Path, *, strict: bool = False) -> list[str]:
    """Package and vulnerability, for each. Raises RuntimeError when strict and one could not be looked up."""
    options = ["--strict"] if strict else []
    command = [TOOLS / "pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off", "-f", "json", *options]
    try:
        said = run(*command, "-r", pinned, expected=(0, 1))
        found = json.loads(said)["dependencies"]
    except (RuntimeError, json.JSONDecodeError):
        if strict:
            raise
        return []
    return [f"{one['name']} {hole['id']}" for one in found for hole in one.get("vulns", ())]


def _secrets_in(files: list[str]) -> dict[str, list[str]]:
    """The hashes of what looks like a secret, by file."""
    said = json.loads(run(TOOLS / "detect-secrets", "scan", "--no-verify", "--force-use-all-plugins", *files))
    return {name: sorted({one["hashed_secret"] for one in found}) for name, found in said["results"].items()}


def _tracked() -> list[str]:
    return [one for one in run("git", "ls-files").splitlines() if one not in ("uv.lock", ".ci/secrets.json")]


def secrets() -> str:
    """No file has what looks like a secret, but for those that were looked at (.ci/secrets.json)."""
    known = json.loads(BASELINE.read_text())
    with tempfile.TemporaryDirectory(dir=ROOT / "dist") as folder:
        planted = Path(folder) / "planted.py"
        planted.write_text("aws_secret = '" + "AKIA" + "IOSFODNN7EXAMPLQ'\n-----BEGIN " + "RSA PRIVATE KEY-----\n")
        files = _tracked()
        found = _secrets_in([*files, str(planted.relative_to(ROOT))])
    if len(found.pop(str(planted.relative_to(ROOT)), [])) < 2:
        raise RuntimeError("a planted key is not found")
    new = [name for name, hashes in found.items() if not set(hashes) <= set(known.get(name, ()))]
    if new:
        raise RuntimeError(f"look at {', '.join(new)}; if there is none, `make audit ARGS=--looked-at-secrets`")
    return f"{len(files)} files, none new; {sum(map(len, found.values()))} looked at and harmless"


def static_scan() -> str:
    """Ruff's rules for security (those of Bandit) find nothing in src, and characters that deceive are in no file."""
    rules = ["check", "--no-cache", "--select", "S", "--output-format", "concise"]
    with tempfile.TemporaryDirectory() as folder:
        planted = Path(folder) / "planted.py"
        planted.write_text("import pickle\npickle.loads(input())\neval(input())\n")
        if "S301" not in run(BIN / "ruff", *rules, "--isolated", planted, expected=(1,)):
            raise RuntimeError("a planted pickle is not found")
        planted.write_text("admin = 'user\u202e'\n", encoding="utf-8")
        if not _deceiving([planted]):
            raise RuntimeError("a planted character that turns the text around is not found")
    run(BIN / "ruff", *rules, "src", ".ci")
    files = [ROOT / name for name in _tracked()]
    found = _deceiving(files)
    if found:
        raise RuntimeError(f"characters that are not seen, or turn the text around: {', '.join(found)}")
    return f"no finding; {len(files)} files show what is in them"


def _deceiving(files: Sequence[Path]) -> list[str]:
    """The places of characters that a reader does not see or sees elsewhere, in all that is text."""
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # a picture, or one that has just been removed
            continue
        found += [f"{path}:{n}" for n, line in enumerate(text.split("\n"), 1) if _DECEIVES.search(line)]
    return found


CHECKS: dict[str, Callable[[], str]] = {
    "bill of materials (CycloneDX)": bill_of_materials,
    "licences": licences,
    "known vulnerabilities (pip-audit)": holes,
    "secrets (detect-secrets)": secrets,
    "static scan (ruff S)": static_scan,
}


def row_of(what: str, check: Callable[[], str]) -> Row:
    """Run one check."""
    try:
        return Row(what, HELD, check())
    except NotChecked as problem:
        return Row(what, NOT_CHECKED, str(problem))
    except (RuntimeError, OSError, ValueError) as problem:
        return Row(what, FAILED, str(problem))


def main() -> int:
    """Run all checks and print the table; 1 when one has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looked-at-secrets", action="store_true", help="write down what is found now as harmless")
    parser.add_argument("--must-check", action="store_true", help="what could not be checked has failed")
    given = parser.parse_args()
    if given.looked_at_secrets:
        BASELINE.write_text(json.dumps(_secrets_in(_tracked()), indent=1, sort_keys=True) + "\n")
    SBOM.parent.mkdir(exist_ok=True)
    rows = [row_of(what, check) for what, check in CHECKS.items()]
    for row in rows:
        sys.stdout.write(f"{row.result:<12} {row.what:<34} {row.found}\n")
    counts = {result: sum(row.result == result for row in rows) for result in (HELD, FAILED, NOT_CHECKED)}
    sys.stdout.write(", ".join(f"{n} {result}" for result, n in counts.items()) + "\n")
    return 1 if counts[FAILED] or (given.must_check and counts[NOT_CHECKED]) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Checks what would be applied: each object by the schema of its kind, all together by the rules of `policy/`.

Run by a Python that has kubernetes-validate, regopy and PyYAML: `kubectl kustomize deploy/k8s/overlays/wide | python
deploy/k8s/check.py`. Prints what is wrong, a line each, and exits with 1.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import regopy
import yaml

POLICY = Path(__file__).with_name("policy")
VERSION = "1.34"
"""Of Kubernetes, whose schemas count."""


def faults_of_kinds(objects: list[dict[str, Any]]) -> Iterator[str]:
    """What the schemas do not take: unknown fields, too, and kinds that Kubernetes itself does not have."""
    for one in objects:
        named = f"{one.get('kind')} {one.get('metadata', {}).get('name')}"
        try:
            kubernetes_validate.validate(one, VERSION, strict=True)
        except kubernetes_validate.ValidationError as fault:
            yield f"{named}: {'.'.join(str(step) for step in fault.path) or 'all of it'}: {fault.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{named}: Kubernetes {VERSION} has no {one.get('apiVersion')} {one.get('kind')}"


def faults_of_policy(objects: list[dict[str, Any]]) -> list[str]:
    """What the rules deny."""
    rules = regopy.Interpreter()
    for path in sorted(POLICY.glob("*.rego")):
        rules.add_module(path.name, path.read_text())
    rules.set_input({"objects": objects})
    (denied,) = json.loads(str(rules.query("data.sentinel.deny")))["expressions"]
    return sorted(denied)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    as_json = parser.parse_args().json
    objects = [one for one in yaml.safe_load_all(sys.stdin) if one is not None]
    if not objects:
        sys.exit("error: nothing came in; pipe what `kubectl kustomize` prints into this")
    found = [*faults_of_kinds(objects), *faults_of_policy(objects)]
    sys.stdout.write(json.dumps(found) + "\n" if as_json else "".join(f"{fault}\n" for fault in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

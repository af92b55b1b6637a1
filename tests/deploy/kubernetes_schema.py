"""Makes `kubernetes.schema.json`: of Kubernetes' own description of its API, what the manifests in deploy/ need.

`python -m tests.deploy.kubernetes_schema WHEEL`, with a wheel of the package kubernetes-validate, takes the newest
release that it has. The package is not installed: its 17,000 files would be a fifth of the test environment.
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).parent / "kubernetes.schema.json"
KINDS = {
    "ConfigMap": "core.v1",
    "Namespace": "core.v1",
    "NetworkPolicy": "networking.v1",
    "PodDisruptionBudget": "policy.v1",
    "Service": "core.v1",
    "ServiceAccount": "core.v1",
    "StatefulSet": "apps.v1",
}
RELEASES = re.compile(r"kubernetes_validate/kubernetes-json-schema/v1\.(\d+)\.0-local-strict/_definitions\.json")


def main(wheel: Path) -> None:
    """Write the schema anew."""
    with zipfile.ZipFile(wheel) as files:
        release, name = max((int(found[1]), found[0]) for found in map(RELEASES.fullmatch, files.namelist()) if found)
        definitions = json.loads(files.read(name))["$defs"]
    roots = {kind: f"io.k8s.api.{group}.{kind}" for kind, group in KINDS.items()}
    needed = dict(sorted(_closure(definitions, list(roots.values())).items()))
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Of the API of Kubernetes 1.{release} (Apache-2.0); made by kubernetes_schema.py",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": list(KINDS)}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": f"#/$defs/{root}"}}
            for kind, root in roots.items()
        ],
    }
    head = json.dumps(schema, indent=1)[:-2]
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in needed.items())
    SCHEMA_FILE.write_text(f'{head},\n "$defs": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def _closure(definitions: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Definitions with all that they refer to, without their descriptions."""
    found = dict[str, Any]()
    while names:
        name = names.pop()
        if name not in found:
            found[name] = _bare(definitions[name])
            names += [one.rpartition("/")[2] for one in _references(found[name])]
    return found


def _bare(node: Any) -> Any:
    match node:
        case dict():
            return {key: _bare(value) for key, value in node.items() if not _is_told(key, value)}
        case list():
            return [_bare(one) for one in node]
    return node


def _is_told(key: str, value: Any) -> bool:
    # There are fields, too, that are called `description`: what a schema says of those is no text.
    return key.startswith("x-kubernetes") or (key == "description" and isinstance(value, str))


def _references(node: Any) -> Iterator[str]:
    match node:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for value in node.values():
                yield from _references(value)
        case list():
            for value in node:
                yield from _references(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

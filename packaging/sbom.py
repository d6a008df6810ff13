"""Lists what the private tree contains, in CycloneDX, from the metadata of each package."""

from __future__ import annotations

import json
from email.parser import HeaderParser
from pathlib import Path
from typing import Any


def sbom(tree: Path, version: str, date: str) -> str:
    """CycloneDX 1.5 as JSON. Source: https://cyclonedx.org/docs/1.5/json/."""
    components: list[dict[str, Any]] = []
    for metadata in sorted(tree.glob("*.dist-info/METADATA")):
        said = HeaderParser().parsestr(metadata.read_text("utf-8"))
        name, number = said["Name"].lower().replace("_", "-"), said["Version"]
        license_ = said["License-Expression"] or next(
            (c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if c.startswith("License ::")),
            said["License"] or "",
        )
        kind = "expression" if said["License-Expression"] else "license"
        components.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{number}",
                "name": name,
                "version": number,
                "purl": f"pkg:pypi/{name}@{number}",
                "licenses": [{kind: license_ if kind == "expression" else {"name": license_}}],
            }
        )
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": f"{date}T00:00:00Z",
            "component": {"type": "application", "bom-ref": "zdd-agent", "name": "zdd-agent", "version": version},
        },
        "components": components,
        "dependencies": [{"ref": "zdd-agent", "dependsOn": [c["bom-ref"] for c in components]}],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"

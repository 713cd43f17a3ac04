"""Writes the tables of keys in docs/spec.md from the schema; `--check` only says whether they are right."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dataset_tasks.spec import schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "spec.md"
_TABLE = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
_NAMES = {
    "string": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "object": "mapping",
}


def page(text: str) -> str:
    """The page with every table made anew."""
    return _TABLE.sub(lambda found: found[1] + table(getattr(schema, found[2])) + found[3], text)


def table(model: type[BaseModel]) -> str:
    """The keys of a model as a Markdown table."""
    said = model.model_json_schema(by_alias=True)
    required = set(said.get("required", ()))
    words = {spec.alias or name: spec.description or "" for name, spec in model.model_fields.items()}
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, spec in said["properties"].items():
        kind = _kind(spec, said.get("$defs", {}))
        default = "required" if name in required else _default(spec)
        lines.append(f"| `{name}` | {kind} | {default} | {words[name]} |")
    return "\n".join(lines) + "\n"


def _default(spec: dict[str, Any]) -> str:  # Any: JSON Schema
    default = spec.get("default")
    if default in (None, "", [], {}):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _kind(spec: dict[str, Any], definitions: dict[str, Any]) -> str:  # Any: JSON Schema
    if "anyOf" in spec or "oneOf" in spec:
        kinds = [_kind(one, definitions) for one in spec.get("anyOf") or spec["oneOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if "enum" in spec:
        return " or ".join(f"`{one}`" for one in spec["enum"])
    if "const" in spec:
        return f"`{str(spec['const']).lower()}`"
    if "$ref" in spec:
        return f"[mapping](#keys-of-{spec['$ref'].rpartition('/')[2].lower()})"
    if spec.get("type") == "array":
        return "list" if not spec.get("items") else f"list of {_kind(spec['items'], definitions)}"
    if isinstance(inner := spec.get("additionalProperties"), dict):
        return f"mapping to {_kind(inner, definitions)}" if inner else "mapping"
    if "pattern" in spec:
        return "" if spec["pattern"].startswith(r"^\$") else "duration"  # numbers and flags may be placeholders
    return "" if spec.get("type") == "null" else _NAMES.get(spec.get("type", ""), "any value")


def main() -> int:
    """Writes or checks the page; 1 when it is not right."""
    text = PAGE.read_text(encoding="utf-8")
    made = page(text)
    if made == text:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{PAGE.name}: the tables are not those of the schema; run scripts/spec_reference.py")
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

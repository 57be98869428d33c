"""Writes settings.md, every setting of a recipe, from the models in kdedge/recipe.py.

python docs/make_settings.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic_core import PydanticUndefined

from kdedge.cli.settings import bounds_of
from kdedge.recipe import Recipe, Section

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """# Settings of a recipe

Written by `python docs/make_settings.py` from the models in
[kdedge/recipe.py](../kdedge/recipe.py): do not edit this page.

A recipe is a TOML file with one table for each stage. Only `name` and `path` under `[data]` are
required. Paths are relative to the recipe's folder. Unknown settings are errors. Most settings of
a stage are also options of its command: `temperature` under `[distill]` is
`kdedge distill --temperature`.
"""
COMMANDS = {
    "teach": "kdedge teach",
    "label": "kdedge label",
    "distill": "kdedge distill",
    "compress": "kdedge compress",
    "export": "kdedge export",
    "decide": "kdedge export",
    "bench": "kdedge bench",
}
KINDS = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    top = [name for name, field in Recipe.model_fields.items() if not _section(field.annotation)]
    parts.append("## Of the recipe\n\n" + _table(Recipe, top))
    for name, field in Recipe.model_fields.items():
        if section := _section(field.annotation):
            parts.append(_part(f"## `[{name}]`", section, COMMANDS.get(name)))
            for inner, inner_field in section.model_fields.items():
                if part := _section(inner_field.annotation):
                    parts.append(_part(f"### `[{name}.{inner}]`", part, None))
    return "\n".join(parts)


def _section(annotation: Any) -> type[Section] | None:
    """The section that a field is or may be (`Section | None`)."""
    kinds = (annotation, *get_args(annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), None)


def _part(heading: str, section: type[Section], command: str | None) -> str:
    first_line = (section.__doc__ or "").strip().splitlines()[0]
    also = f" Command: `{command}`." if command else ""
    return f"{heading}\n\n{first_line}{also}\n\n{_table(section, list(section.model_fields))}"


def _table(section: type[Section], names: list[str]) -> str:
    schemas = section.model_json_schema()["properties"]
    rows = ["| setting | value | default | |", "|---|---|---|---|"]
    for name in names:
        field = section.model_fields[name]
        # Of `int | None` the schema of int.
        schema = schemas[name] | schemas[name].get("anyOf", [{}])[0]
        words = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_value(schema)} | {_default(field.default)} | {words} |")
    return "\n".join(rows) + "\n"


def _value(schema: Mapping[str, Any]) -> str:
    if schema.get("type") == "array":
        if parts := schema.get("prefixItems"):
            return "list of: " + ", ".join(map(_value, parts))
        return f"list of: {_value(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"`{name}`" for name in schema["enum"])
    if "$ref" in schema:
        return "a table"
    if schema.get("type") == "object":
        inner = schema["additionalProperties"]
        return f"a table: name = {_value(inner)}"
    if schema.get("format") == "path":
        return "path"
    return ", ".join([KINDS.get(schema.get("type", ""), "text"), *bounds_of(schema)])


def _default(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, Section):
        return "see below"
    if isinstance(default, tuple):
        return f"`{json.dumps(list(default))}`"
    return f"`{json.dumps(default)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

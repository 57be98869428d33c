"""Makes the options of a command from the settings of a stage in `kdedge.recipe`.

    @settings_as_options
    def teach(out: Out, settings: Annotated[Teach, Options(main=("epochs",))]) -> None: ...

`kdedge teach` then has an option for each field of `Teach`, with its name, default, bounds and
description, and `settings` is the section with the given values. Invalid values give the same
messages as in a recipe.
"""

import csv
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError

from kdedge.errors import KdedgeError
from kdedge.recipe import AnySection, Section, problems

MORE = "More settings"
# How help texts show the types and bounds of a JSON schema.
METAVARS = {"integer": "INTEGER", "number": "NUMBER", "boolean": "true|false"}
BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "below {}",
}


@dataclass(frozen=True)
class Options:
    """How the fields of a section become options of a command.

    Attributes:
        main: fields that the help shows first; the others are in the panel `MORE`.
        only: fields to use; all if empty.
        without: fields to leave out.
        help: help texts of fields whose description in the recipe does not fit.
        defaults: descriptions of defaults that the command chooses itself, by field.
        required: name of the argument for the first field without a default. If the name begins
            with `--`, the field becomes an option, and the section is None without it.
    """

    main: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    help: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    required: str = "DATA"

    def needed(self, section: type[Section]) -> str | None:
        """The field that `required` is the option or argument for."""
        names = self.fields_of(section)
        return next((name for name in names if section.model_fields[name].is_required()), None)

    def fields_of(self, section: type[Section]) -> list[str]:
        """Names of the fields that become options."""
        return [
            name
            for name in section.model_fields
            if name not in self.without and name in (self.only or (name,))
        ]


def settings_as_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter of type `Annotated[Section, Options(...)]` into options.

    The command gets the section. Its `model_fields_set` are the fields whose given values differ
    from the default.
    """
    sections: dict[str, tuple[type[Section], Options]] = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        kind, *notes = get_args(parameter.annotation) or (None,)
        if notes and isinstance(notes[0], Options):
            section = next(part for part in (*get_args(kind), kind) if part is not NoneType)
            sections[parameter.name] = section, notes[0]
            names = notes[0].fields_of(section)
            parameters += [_parameter(section, name, notes[0]) for name in names]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        for name, (section, options) in sections.items():
            values = {key: given.pop(key) for key in options.fields_of(section)}
            given[name] = _settings(section, options, values)
        command(**given)

    filled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    filled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return filled


def _parameter(section: type[Section], name: str, options: Options) -> inspect.Parameter:
    info, schema = section.model_fields[name], _schemas(section)[name]
    default = _default(section, name, options)
    # A field that is true by default takes a value, as in a recipe: `--from-teacher false`.
    kind: Any = bool if info.default is False else str
    # An option for a list can be repeated.
    if schema.get("type") == "array":
        kind, default = list[str], None if default is None else [default]
    description, _, by_rule = (info.description or "").partition("; default: ")
    words = options.help.get(name) or description + _limits(schema)
    if chosen := options.defaults.get(name, by_rule if name not in options.help else ""):
        words += f"; default: {chosen}"
    note: Any
    needed = name == options.needed(section)
    if needed and not options.required.startswith("--"):
        note = typer.Argument(metavar=options.required, help=words)
        default = inspect.Parameter.empty
    else:
        flag = options.required if needed else _flag(name)
        note = typer.Option(flag, help=words, metavar=None if kind is bool else _metavar(schema))
        note.rich_help_panel = None if name in options.main else MORE
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, note],
    )


def _settings(
    section: type[AnySection], options: Options, values: Mapping[str, Any]
) -> AnySection | None:
    """The section with the given values; None if the field without a default was not given."""
    values = {n: ",".join(v) if isinstance(v, list) else v for n, v in values.items()}
    given = {
        name: _parts(_flag(name), _schemas(section)[name], value)
        for name, value in values.items()
        if value is not None and value != _default(section, name, options)
    }
    if (needed := options.needed(section)) and needed not in given:
        if given:
            names = ", ".join(map(_flag, given))
            raise KdedgeError(f"{names}: only with {options.required}.")
        return None
    try:
        return section.model_validate(given)
    except ValidationError as error:
        raise KdedgeError(
            " ".join(
                f"{_option(key)}: {words}" if key else words
                for key, words in problems(section, error)
            )
        ) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _option(key: str) -> str:
    """`--artifacts` of `artifacts.0`, `--mixture typos` of `mixture.typos`."""
    name, _, inside = key.partition(".")
    return _flag(name) + (f" {inside}" if inside and not inside.isdigit() else "")


@functools.cache
def _schemas(section: type[Section]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each field; of `int | None`, that of int."""
    fields = section.model_json_schema()["properties"]
    return {name: schema | schema.get("anyOf", [{}])[0] for name, schema in fields.items()}


def _default(section: type[Section], name: str, options: Options) -> Any:
    """The default of an option: text, False, or None if there is none."""
    info = section.model_fields[name]
    default = None if info.is_required() or name in options.defaults else info.default
    if isinstance(default, Section | dict):
        given = ((key, value) for key, value in dict(default).items() if value is not None)
        return ", ".join(f"{key}={value}" for key, value in given) or None
    if isinstance(default, tuple):
        return ", ".join(map(str, default)) or None
    if isinstance(default, float):
        return f"{default:g}"
    if default is True:
        return "true"
    return default if default is None or default is False else str(default)


def split_list(option: str, text: str) -> list[str]:
    """Split the list in an option at its commas; parts with a comma are in double quotes.

        >>> split_list("--labels", 'bad, "good, or fair"')
        ['bad', 'good, or fair']

    Args:
        option: name of the option, for messages.
        text: its value.

    Raises:
        KdedgeError: the list has a line break.
    """
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise KdedgeError(
            f"{option}: {text!r:.60} is not a list ({error}). Write it in one line, with commas."
        ) from None
    return [part.strip() for part in parts]


def _parts(option: str, schema: Mapping[str, Any], value: Any) -> Any:
    """Split the text of an option for pydantic: `a,b` is a list, `a=1,b=2` a dictionary."""
    if schema.get("type") == "array":
        # An empty text is a part that is not allowed, not an empty list.
        return split_list(option, value) or [value]
    if _has_names(schema):
        return dict(part.strip().partition("=")[::2] for part in value.split(","))
    return value


def _has_names(schema: Mapping[str, Any]) -> bool:
    return "$ref" in schema or schema.get("type") == "object"


def _metavar(schema: Mapping[str, Any]) -> str:
    if _has_names(schema):
        return "NAME=VALUE,..."
    if schema.get("type") == "array":
        if parts := schema.get("prefixItems"):
            return ",".join(map(_metavar, parts))
        return f"{_metavar(schema['items'])},..."
    if schema.get("format") == "path":
        return "PATH"
    return METAVARS.get(schema.get("type", ""), "TEXT")


def _limits(schema: Mapping[str, Any]) -> str:
    """The allowed values for the end of a help text, such as ` (1 or more)`."""
    schema = schema.get("items", schema)
    if "enum" in schema:
        *most, last = schema["enum"]
        return f" ({', '.join(most)} or {last})"
    bounds = bounds_of(schema)
    return f" ({', '.join(bounds)})" if bounds else ""


def bounds_of(schema: Mapping[str, Any]) -> list[str]:
    """The bounds of a number in words: `["1 or more"]`."""
    found = ((words, schema[name]) for name, words in BOUNDS.items() if name in schema)
    return [words.format(f"{n:,}" if isinstance(n, int) else f"{n:g}") for words, n in found]

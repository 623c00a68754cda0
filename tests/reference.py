"""``python -m tests.reference`` (``make reference``): the reference pages that are made of the code, written anew.

docs/reference/fields.md from the resource definitions, docs/reference/commands.md from the command lines,
docs/reference/metrics.md from the table of the metrics. tests/unit/operator/test_reference.py says when one is old.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from twinhull_operator.metrics.reference import replaced
from twinhull_operator.plugin.kubectl_twinhull.command import parser as plugin_parser
from twinhull_operator.plugin.kubectl_twinhull.completion import subparsers
from twinhull_sidecar.ctl import parser as control_parser

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
HEAD = "<!-- Made by `make reference`; do not edit. -->\n\n"
KINDS = {"MirrorModule": "mirrormodules", "FarmModule": "farmmodules"}


def pages() -> dict[str, str]:
    """Every generated page by its name."""
    metrics = (REFERENCE / "metrics.md").read_text()
    return {"fields.md": fields_page(), "commands.md": commands_page(), "metrics.md": replaced(metrics)}


def fields_page() -> str:
    """All fields of both kinds, with type, default, limits and the API server's own messages."""
    text = HEAD + "# Fields of the resources\n\nAs `kubectl explain` has them. What they are for: "
    text += "[MirrorModule](mirrormodule.md), [FarmModule](farmmodule.md).\n"
    for kind, plural in KINDS.items():
        definition = yaml.safe_load((ROOT / "crds" / f"{plural}.twinhull.dev.yaml").read_text())
        (version,) = definition["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        text += f"\n## {kind}\n\n`{definition['metadata']['name']}`, version `{version['name']}`.\n\n"
        text += "| field | type | default | meaning |\n|---|---|---|---|\n"
        for part in ("spec", "status"):
            top = schema["properties"][part]
            for path, field, required in _fields(top, part):
                default = "required" if required else _default(field)
                text += f"| `{path}` | {_type(field)} | {default} | {_meaning(field)} |\n"
    return text


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    required = schema.get("required") or ()
    for name, field in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", field, name in required
        yield from _fields(field, f"{path}.{name}")
        if "items" in field:
            yield from _fields(field["items"], f"{path}.{name}[]")


def _type(field: Mapping[str, Any]) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in field:
        return " \\| ".join(f"`{choice}`" for choice in field["enum"])
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"list of {_type(field['items'])}"
    if kind == "object" and "additionalProperties" in field:
        return f"map of {_type(field['additionalProperties'])}"
    return kind


def _default(field: Mapping[str, Any]) -> str:
    return f"`{field['default']}`" if "default" in field and field["default"] != {} else ""


def _meaning(field: Mapping[str, Any]) -> str:
    parts = [" ".join(str(field.get("description", "")).split())]
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        parts.append(f"{low} to {high}.")
    parts += [
        f"*{' '.join(rule['message'].split())}.*" for rule in field.get("x-kubernetes-validations") or ()
    ]
    return " ".join(part for part in parts if part).replace("|", "\\|")


def commands_page() -> str:
    """All commands and options of the plugin and of twinhullctl."""
    text = (
        HEAD
        + "# Commands\n\nWhat they are for, and the exit codes: [kubectl-twinhull.md](kubectl-twinhull.md).\n"
    )
    for name, top in (("kubectl twinhull", plugin_parser()), ("twinhullctl", control_parser())):
        text += f"\n## {name}\n"
        shared = [action for action in top._actions if action.option_strings]
        if options := "".join(map(_option, shared)):
            text += f"\n{options}"
        helps = {choice.dest: choice.help or "" for choice in _choices(top)}
        for command, made in subparsers(top).items():
            words = " ".join([name, command, *map(_positional, _positionals(made))])
            text += f"\n### `{words}`\n\n{_sentence(helps.get(command, ''))}\n\n"
            text += "".join(_option(action) for action in made._actions if action.option_strings)
    return text


def _choices(top: argparse.ArgumentParser) -> list[argparse.Action]:
    found = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return found._choices_actions


def _positionals(made: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in made._actions if not action.option_strings]


def _positional(action: argparse.Action) -> str:
    word = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    return f"[{word}]" if action.nargs == "?" else word


def _option(action: argparse.Action) -> str:
    if isinstance(action, argparse._HelpAction):
        return ""
    value = (
        ""
        if action.nargs == 0
        else f" {action.metavar or '|'.join(map(str, action.choices or ())) or action.dest.upper()}"
    )
    names = ", ".join(f"`{option}{value}`" for option in action.option_strings)
    needed = " Required." if action.required else ""
    return f"- {names}: {_sentence(action.help or '')}{needed}\n" if action.help else f"- {names}{needed}\n"


def _sentence(text: str) -> str:
    return f"{text}." if text and not text.endswith(".") else text


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)


if __name__ == "__main__":
    main()

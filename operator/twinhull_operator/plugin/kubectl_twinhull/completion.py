"""Shell completion: the scripts, and the words that they ask for."""

from __future__ import annotations

import argparse

from .kubectl import DONE, Kubectl, PluginError, find_modules, find_pods

SCRIPTS = {
    "bash": """# kubectl twinhull in bash: source <(kubectl twinhull completion bash)
_kubectl_twinhull() {
    local IFS=$'\\n'
    COMPREPLY=($(kubectl-twinhull __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | sed '$d'))
}
complete -o default -F _kubectl_twinhull kubectl-twinhull
""",
    "zsh": """#compdef kubectl-twinhull
# kubectl twinhull in zsh: source <(kubectl twinhull completion zsh)
_kubectl_twinhull() {
    local -a found
    found=("${(@f)$(kubectl-twinhull __complete "${(@)words[2,CURRENT]}" 2>/dev/null | sed '$d')}")
    compadd -- $found
}
compdef _kubectl_twinhull kubectl-twinhull
""",
    "kubectl": """#!/bin/sh
# For kubectl's own completion: an executable named kubectl_complete-twinhull in a directory of PATH.
exec kubectl-twinhull __complete "$@"
""",
}
NO_FILES = ":4"
"""kubectl's directive: these are all, no names of files."""


def print_script(_: Kubectl, arguments: argparse.Namespace) -> int:
    """`completion`."""
    print(SCRIPTS[arguments.shell], end="")
    return DONE


def complete(kubectl: Kubectl, parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Print what the last word may become."""
    *before, last = words or [""]
    for candidate in candidates(kubectl, parser, before, last):
        if candidate.startswith(last):
            print(candidate)
    print(NO_FILES)
    return DONE


def candidates(kubectl: Kubectl, parser: argparse.ArgumentParser, before: list[str], last: str) -> list[str]:
    """All that could stand here."""
    commands = subparsers(parser)
    command = next((word for word in before if word in commands), None)
    if command is None:
        return sorted(commands)
    actions = [
        action for action in commands[command]._actions if not isinstance(action, argparse._HelpAction)
    ]
    flags = {option: action for action in actions for option in action.option_strings}
    if before[-1] in flags and flags[before[-1]].nargs != 0:
        return _values(kubectl, flags[before[-1]], _names(before, command, flags))
    if last.startswith("-"):
        return sorted(option for option in flags if option.startswith("--"))
    positional = [action for action in actions if not action.option_strings]
    if len(_names(before, command, flags)) >= len(positional):
        return sorted(option for option in flags if option.startswith("--"))
    return _values(kubectl, positional[len(_names(before, command, flags))], [])


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a command line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _names(before: list[str], command: str, flags: dict[str, argparse.Action]) -> list[str]:
    """The positional words so far, without the command."""
    found, skip = [], False
    for word in before[before.index(command) + 1 :]:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in flags and flags[word].nargs != 0
        else:
            found.append(word)
    return found


def _values(kubectl: Kubectl, action: argparse.Action, names: list[str]) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    try:
        if action.dest == "name":
            return sorted(module["metadata"]["name"] for module in find_modules(kubectl))
        if action.dest in ("node", "to") and names:
            return sorted(find_pods(kubectl, names[0]))
    except PluginError:
        return []
    return []

"""Environment: reads options from environment variables.

A variable that has the prefix but names no option is an error, because silently
ignoring a misspelt option is worse than a process that does not start.

The module does not know the options: their tables and the environment are arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

from .checks import Check

__all__ = ["Variable", "nearest", "read_environment", "variables"]

OF_KUBERNETES = re.compile(r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)")
"""Variables that Kubernetes sets in a pod for each service of its namespace; no option has such an ending."""


class Variable(NamedTuple):
    """One environment variable.

    Args:
        group: name of the group that the field belongs to; empty for an option without a group.
        name: name of the option, or of the field in the group.
        check: the check of its value.
    """

    group: str
    name: str
    check: Check


def variables(checks: Mapping[str, Check], groups: Mapping[str, type[Any]]) -> dict[str, Variable]:
    """All variables by name, without the prefix.

    Args:
        checks: the check of each option.
        groups: the dataclass of each option that is a group; it has its own table ``CHECKS``.
    """
    alone = {name.upper(): Variable("", name, check) for name, check in checks.items() if check.readable}
    grouped = {
        f"{group}_{name}".upper(): Variable(group, name, check)
        for group, kind in groups.items()
        for name, check in kind.CHECKS.items()
    }
    return alone | grouped


def read_environment(
    prefix: str, environ: Mapping[str, str], checks: Mapping[str, Check], groups: Mapping[str, type[Any]]
) -> dict[str, Any]:
    """The options that an environment sets.

    Args:
        prefix: the prefix of the variables.
        environ: the environment; variables without the prefix are ignored.
        checks: the check of each option.
        groups: the dataclass of each option that is a group.

    Raises:
        ValueError: an empty prefix, a variable with the prefix that is no option, a value that is
            not allowed, or a group without a field that it needs.
    """
    if not prefix:
        raise ValueError("prefix='': must not be empty")
    known = variables(checks, groups)
    found: dict[str, dict[str, Any]] = {"": {}}
    for variable, text in environ.items():
        if variable.startswith(prefix) and not OF_KUBERNETES.fullmatch(variable, len(prefix)):
            group, name, check = _known(prefix, variable, known, checks)
            found.setdefault(group, {})[name] = check.read(variable, text)
    alone = found.pop("")
    return alone | {group: _build(prefix, group, groups[group], given) for group, given in found.items()}


def _known(prefix: str, variable: str, known: Mapping[str, Variable], checks: Mapping[str, Check]) -> Variable:
    name = variable.removeprefix(prefix)
    if name in known:
        return known[name]
    # An option that text cannot express, such as a function, exists but has no variable.
    if name.isupper() and name.lower() in checks:
        raise ValueError(f"{variable}: cannot be set from the environment")
    raise ValueError(f"{variable}: no such option; did you mean {prefix}{nearest(name, known)}?")


def _build(prefix: str, group: str, kind: type[Any], given: dict[str, Any]) -> Any:
    for required in fields(kind):
        if required.default is MISSING and required.name not in given:
            raise ValueError(f"{prefix}{group.upper()}_{required.name.upper()}: must be set with the rest of its group")
    return kind(**given)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar to the given one; case does not count."""
    # A cutoff of 0, so that there always is one.
    by_folded = {other.casefold(): other for other in known}
    return by_folded[get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.0)[0]]

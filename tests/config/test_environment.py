"""The environment: which variable sets which option, and errors that help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from wsstab.config.checks import Check, flag, function, number, whole
from wsstab.config.environment import nearest, read_environment, variables


@dataclass(frozen=True)
class Pump:
    """A group with one required field."""

    litres: float
    valves: int = 2

    CHECKS: ClassVar[dict[str, Check]] = {"litres": number("a number of litres"), "valves": whole("valves")}


CHECKS = {"depth": number("a number of metres"), "lit": flag(), "when_full": function("the depth")}
GROUPS = {"pump": Pump}


def read(**environ: str) -> dict[str, Any]:
    """The options that an environment sets with the prefix ``WELL_``."""
    return read_environment("WELL_", environ, CHECKS, GROUPS)


def refusal(**environ: str) -> str:
    """The error with which an environment is refused."""
    with pytest.raises(ValueError) as caught:
        read(**environ)
    return str(caught.value)


def test_an_environment_without_our_prefix_sets_nothing() -> None:
    """The prefix must match exactly."""
    assert read() == read(PATH="/bin", WELLDEPTH="3", DEPTH="3", well_depth="3") == {}


def test_options_and_groups_are_read() -> None:
    """Each value is read by the check of its option."""
    found = read(WELL_DEPTH="2.5", WELL_LIT="yes", WELL_PUMP_LITRES="10", WELL_PUMP_VALVES="4")
    assert found == {"depth": 2.5, "lit": True, "pump": Pump(10.0, 4)}


def test_the_other_fields_of_a_group_keep_their_defaults() -> None:
    """Setting one field does not require setting all."""
    assert read(WELL_PUMP_LITRES="10") == {"pump": Pump(10.0)}


def test_variables_lists_every_option_that_a_text_can_set() -> None:
    """Options that no text can express are left out."""
    known = variables(CHECKS, GROUPS)
    assert list(known) == ["DEPTH", "LIT", "PUMP_LITRES", "PUMP_VALVES"]
    assert known["PUMP_VALVES"][:2] == ("pump", "valves")
    assert known["DEPTH"][:2] == ("", "depth")


def test_a_group_needs_its_field_without_a_default() -> None:
    """The error names the missing variable."""
    assert refusal(WELL_PUMP_VALVES="4") == "WELL_PUMP_LITRES: must be set with the rest of its group"


def test_a_bad_value_is_refused_with_the_name_of_its_variable() -> None:
    """This holds for the fields of a group too."""
    assert refusal(WELL_DEPTH="deep") == "WELL_DEPTH='deep': must be a number of metres greater than 0"
    assert refusal(WELL_PUMP_VALVES="0") == "WELL_PUMP_VALVES='0': must be a whole number of valves, 1 or more"


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("WELL_DEPHT", "WELL_DEPTH"),
        ("WELL_depth", "WELL_DEPTH"),
        ("WELL_PUMP", "WELL_PUMP_"),
        ("WELL_VALVES", "WELL_PUMP_VALVES"),
        ("WELL_when_full", "WELL_"),
        ("WELL_", "WELL_"),
        ("WELL_ß", "WELL_"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(variable: str, suggestion: str) -> None:
    """A name is suggested even if it is very different."""
    assert refusal(**{variable: "3"}).startswith(f"{variable}: no such option; did you mean {suggestion}")


def test_an_option_that_no_text_can_set_is_refused_with_that_reason() -> None:
    """The option exists, but can only be set in code."""
    assert refusal(WELL_WHEN_FULL="stop") == "WELL_WHEN_FULL: cannot be set from the environment"


@pytest.mark.parametrize(
    "variable",
    [
        "WELL_SERVICE_HOST",
        "WELL_SERVICE_PORT",
        "WELL_SERVICE_PORT_HTTP",
        "WELL_PORT",
        "WELL_PORT_80_TCP",
        "WELL_PORT_80_TCP_ADDR",
        "WELL_PORT_53_UDP_PROTO",
        "WELL_CHAT_SERVICE_HOST",
        "WELL_CHAT_PORT_8000_TCP_PORT",
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_ignored(variable: str) -> None:
    """A service named ``well`` or ``well-chat`` must not stop every pod beside it."""
    assert read(**{variable: "tcp://10.0.0.1:80"}) == {}


@pytest.mark.parametrize("variable", ["WELL_SERVICE", "WELL_PORTS", "WELL_PORT_X_TCP", "WELL_SUPPORT"])
def test_variables_that_only_resemble_those_of_kubernetes_are_refused(variable: str) -> None:
    """They may be misspelt options."""
    assert "no such option" in refusal(**{variable: "3"})


def test_an_empty_prefix_is_refused() -> None:
    """Without a prefix, every variable would count as an option."""
    with pytest.raises(ValueError, match="prefix='': must not be empty"):
        read_environment("", {}, CHECKS, GROUPS)


def test_the_nearest_name_ignores_case() -> None:
    """It is returned in the spelling of the known name."""
    assert nearest("DEPTHS", ["depth", "lit"]) == "depth"
    assert nearest("", ["depth"]) == "depth"

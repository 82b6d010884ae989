"""`wsstab.hub.serving`: which server a connection came through."""

from __future__ import annotations

from copy import copy, deepcopy
from typing import Any

import pytest
from starlette.datastructures import State

from wsstab.hub.serving import SERVER_KEY, ServingServer, server_of


def test_a_scope_leads_to_the_server_whose_lifespan_made_its_state() -> None:
    """A server puts a copy of that state into each scope."""
    server = ServingServer()
    assert not server.stopping
    assert server_of({"state": {SERVER_KEY: server}}) is server


@pytest.mark.parametrize(
    "scope",
    [{}, {"state": None}, {"state": {}}, {"state": {SERVER_KEY: "another's"}}, {"state": State({SERVER_KEY: 1})}],
)
def test_a_scope_without_a_lifespan_state_leads_to_no_server(scope: dict[str, Any]) -> None:
    """Nor does a scope whose state is not a plain dict, or holds another object under the key."""
    assert server_of(scope) is None


def test_a_copy_of_a_state_leads_to_the_same_server() -> None:
    """Some middleware makes deep copies of the scope."""
    server = ServingServer()
    assert deepcopy({"state": {SERVER_KEY: server}})["state"][SERVER_KEY] is copy(server) is server

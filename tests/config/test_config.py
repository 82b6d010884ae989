"""Configuration: defaults, checks, the frozen copy, overrides, routes and the environment."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstab.close import CLOSES, Close
from wsstab.config import (
    CompressionMode,
    Drain,
    HeartbeatType,
    Hooks,
    Inbound,
    MemoryEvictionPolicy,
    Outbound,
    Override,
    RateLimit,
    SlowConsumerPolicy,
    WebSocketConfig,
)
from wsstab.config import config as module
from wsstab.config.checks import Check
from wsstab.config.config import CHECKS, GROUPS, NEED_THE_MIDDLEWARE, PER_CONNECTION, dead_without_middleware
from wsstab.config.environment import OF_KUBERNETES, variables
from wsstab.types import Scope

DEFAULTS = {
    "heartbeat_interval": 30.0,
    "heartbeat_timeout": 60.0,
    "heartbeat_type": "ping",
    "max_connections": None,
    "max_message_size": 1048576,
    "reconnect_token_ttl": timedelta(hours=1),
    "enable_reconnect": True,
    "compression": "deflate",
    "log_level": "INFO",
    "enable_metrics": False,
    "num_shards": 16,
    "max_concurrent_cleanup": 100,
    "max_concurrent_broadcast": 1000,
    "max_memory_per_connection": None,
    "max_total_memory": None,
    "memory_eviction_policy": "lru",
    "memory_check_interval": 60.0,
    "compression_threshold": 1024,
    "secret_key": None,
    "allowed_origins": "same-host",
    "trusted_proxies": ("127.0.0.1", "::1"),
    "client_address": None,
    "max_connections_per_address": None,
    "max_connections_per_client": None,
    "duplicate_client": "replace",
    "accept_timeout": 10.0,
    "idle_timeout": None,
    "max_connection_age": None,
    "inbound": Inbound(max_messages=256, max_bytes=1024 * 1024),
    "outbound": Outbound(max_bytes=1024 * 1024, max_messages=1000, send_timeout=10.0, policy="close"),
    "rate_limit": None,
    "drain": Drain(20.0, 100, 0.1, 1012, "service restart", True),
    "custom_heartbeat": None,
    "authorize": None,
    "broadcast": True,
    "routes": {},
    "hooks": Hooks(),
}


async def authorize(scope: Scope) -> bool | str | Close:
    """Admit a request that has a user, under the user's name."""
    return str(scope.get("user", "")) or CLOSES["UNAUTHORIZED"]


def test_the_defaults_are_the_published_ones() -> None:
    """This covers names, values and the order, which positional arguments rely on."""
    config = WebSocketConfig()
    assert {field.name: getattr(config, field.name) for field in dataclasses.fields(config)} == DEFAULTS
    assert [field.name for field in dataclasses.fields(config)] == list(DEFAULTS)
    assert WebSocketConfig(25.0, 50.0, "off", 10).max_connections == 10


def test_every_option_is_checked_and_documented() -> None:
    """An option without a check would accept any value."""
    assert sorted(CHECKS) == sorted(DEFAULTS)
    assert [name for name in DEFAULTS if f"    {name}: " not in str(WebSocketConfig.__doc__)] == []


def test_two_configurations_are_equal_by_value_and_independent() -> None:
    """Changing one does not change the other."""
    first, second = WebSocketConfig(), WebSocketConfig()
    assert first == second
    first.heartbeat_interval = 5
    assert first != second


@pytest.mark.parametrize(
    "config",
    [
        WebSocketConfig(heartbeat_interval=5.0, heartbeat_timeout=10.0, max_connections=10000),
        WebSocketConfig(heartbeat_interval=45.0, heartbeat_timeout=90.0, compression="none"),
        WebSocketConfig(heartbeat_interval=20.0, max_connections=500),
        WebSocketConfig(
            heartbeat_interval=30.0,
            max_connections=50000,
            num_shards=32,
            max_concurrent_cleanup=50,
            max_concurrent_broadcast=500,
            max_memory_per_connection=1024 * 1024,
            max_total_memory=1024 * 1024 * 1024,
            memory_eviction_policy=MemoryEvictionPolicy.LRU,
        ),
    ],
    ids=["low latency", "slow proxy", "serverless", "many connections"],
)
def test_the_published_example_configurations_are_accepted(config: WebSocketConfig) -> None:
    """They are copied from the published documentation."""
    assert config.frozen() == config


def test_texts_become_members_of_the_enums() -> None:
    """This holds in the constructor and for later assignments."""
    config = WebSocketConfig(heartbeat_type="custom", compression="none", memory_eviction_policy="largest")
    assert config.heartbeat_type is HeartbeatType.CUSTOM
    assert config.compression is CompressionMode.NONE
    assert config.memory_eviction_policy is MemoryEvictionPolicy.LARGEST
    config.heartbeat_type = "off"
    assert config.heartbeat_type is HeartbeatType.OFF


VALID: list[tuple[str, Any, Any]] = [
    ("heartbeat_interval", 25, 25.0),
    ("heartbeat_timeout", 0.5, 0.5),
    ("max_connections", 1, 1),
    ("max_message_size", None, None),
    ("reconnect_token_ttl", 90, timedelta(seconds=90)),
    ("log_level", "debug", "DEBUG"),
    ("secret_key", ["new", "old"], ("new", "old")),
    ("allowed_origins", "*", "*"),
    ("allowed_origins", ["*.example.com"], ("*.example.com",)),
    ("trusted_proxies", [], ()),
    ("client_address", str, str),
    ("duplicate_client", "allow", "allow"),
    ("accept_timeout", None, None),
    ("idle_timeout", 60, 60.0),
    ("max_connection_age", 3600, 3600.0),
    ("rate_limit", RateLimit(5), RateLimit(5)),
    ("custom_heartbeat", "beat", "beat"),
    ("custom_heartbeat", dict, dict),
    ("authorize", authorize, authorize),
    ("routes", {"/ws": Override()}, {"/ws": Override()}),
]


@pytest.mark.parametrize(("name", "value", "kept"), VALID)
def test_constructor_and_assignment_keep_an_allowed_value_alike(name: str, value: Any, kept: Any) -> None:
    """Options may be assigned until the configuration is used."""
    given_at_once = WebSocketConfig(**{name: value})
    set_later = WebSocketConfig()
    setattr(set_later, name, value)
    assert getattr(given_at_once, name) == getattr(set_later, name) == kept
    assert given_at_once == set_later


INVALID: list[tuple[str, Any, str]] = [
    ("heartbeat_interval", 0, "heartbeat_interval=0: must be a number of seconds greater than 0"),
    ("heartbeat_interval", None, "heartbeat_interval=None: must be a number of seconds greater than 0"),
    ("heartbeat_timeout", float("nan"), "heartbeat_timeout=nan: must be a number of seconds"),
    ("heartbeat_timeout", True, "heartbeat_timeout=True: must be a number of seconds"),
    ("heartbeat_type", "pong", "heartbeat_type='pong': must be one of ping, custom, off"),
    ("max_connections", "ten", "max_connections='ten': must be a whole number of connections, 1 or more; or None"),
    ("max_connections", 0, "max_connections=0: must be"),
    ("max_message_size", -1, "max_message_size=-1: must be a whole number of bytes"),
    ("reconnect_token_ttl", timedelta(0), "must be a timedelta or a number of seconds, greater than 0"),
    ("enable_reconnect", 1, "enable_reconnect=1: must be True or False"),
    ("compression", "gzip", "compression='gzip': must be one of deflate, none"),
    ("compression_threshold", 0, "compression_threshold=0: must be a whole number of bytes, 1 or more"),
    ("log_level", "LOUD", "log_level='LOUD': must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
    ("enable_metrics", "yes", "enable_metrics='yes': must be True or False"),
    ("num_shards", 0, "num_shards=0: must be a whole number of shards, 1 or more"),
    ("max_concurrent_cleanup", 0, "max_concurrent_cleanup=0: must be"),
    ("max_concurrent_broadcast", None, "max_concurrent_broadcast=None: must be"),
    ("max_memory_per_connection", 0.5, "max_memory_per_connection=0.5: must be"),
    ("max_total_memory", 0, "max_total_memory=0: must be"),
    ("memory_eviction_policy", "mru", "must be one of lru, fifo, oldest, largest"),
    ("memory_check_interval", 0, "memory_check_interval=0: must be a number of seconds greater than 0"),
    ("secret_key", "", "secret_key=<not shown>: must be a text that is not empty"),
    ("allowed_origins", "example.com", 'must be "same-host", "*" or a list'),
    ("allowed_origins", None, "allowed_origins=None: must be"),
    ("trusted_proxies", "127.0.0.1", "trusted_proxies='127.0.0.1': must be a list of addresses"),
    ("client_address", "X-Real-IP", "client_address='X-Real-IP': must be a function of the scope"),
    ("max_connections_per_address", 0, "max_connections_per_address=0: must be"),
    ("max_connections_per_client", False, "max_connections_per_client=False: must be"),
    ("duplicate_client", "merge", "duplicate_client='merge': must be one of replace, reject, allow"),
    ("accept_timeout", 0, "accept_timeout=0: must be"),
    ("idle_timeout", -5, "idle_timeout=-5: must be"),
    ("max_connection_age", float("inf"), "max_connection_age=inf: must be"),
    ("inbound", None, "inbound=None: must be Inbound(...)"),
    ("outbound", {"max_bytes": 5}, "outbound={'max_bytes': 5}: must be Outbound(...)"),
    ("rate_limit", 10, "rate_limit=10: must be RateLimit(...); or None for no limit"),
    ("drain", 20, "drain=20: must be Drain(...)"),
    ("custom_heartbeat", 5, "custom_heartbeat=5: must be a str, bytes or dict"),
    ("authorize", True, "authorize=True: must be a function of the scope; or None for everybody"),
    ("broadcast", None, "broadcast=None: must be True or False"),
    ("routes", {"ws": Override()}, 'must be a dict from path patterns, which begin with "/" or "*", to Override(...)'),
    ("routes", {"/ws": {}}, "routes={'/ws': {}}: must be"),
    ("hooks", {}, "hooks={}: must be Hooks(...)"),
]


@pytest.mark.parametrize(("name", "value", "message"), INVALID)
def test_constructor_and_assignment_refuse_any_other_value_alike(name: str, value: Any, message: str) -> None:
    """The error comes at once, so the traceback shows the wrong line; the earlier value stays."""
    with pytest.raises(ValueError) as at_construction:
        WebSocketConfig(**{name: value})
    config = WebSocketConfig()
    with pytest.raises(ValueError) as when_set:
        setattr(config, name, value)
    assert message in str(at_construction.value)
    assert str(when_set.value) == str(at_construction.value)
    assert config == WebSocketConfig()


def test_the_table_of_refused_values_covers_every_option() -> None:
    assert {name for name, _, _ in INVALID} == set(DEFAULTS)


def test_a_misspelt_option_is_refused_with_the_nearest_name() -> None:
    """It would otherwise be set and have no effect."""
    config = WebSocketConfig()
    with pytest.raises(AttributeError, match="heartbeat_intervall: no such option; did you mean heartbeat_interval"):
        config.heartbeat_intervall = 5  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="heartbeat_intervall"):
        WebSocketConfig(heartbeat_intervall=5)  # type: ignore[call-arg]


def test_validation_finds_values_that_were_changed_in_place() -> None:
    """A dict can be changed without being assigned again."""
    config = WebSocketConfig()
    config.validate()
    vars(config)["routes"]["/ws"] = "junk"
    with pytest.raises(ValueError, match=r"routes=.*junk.*: must be"):
        config.validate()
    with pytest.raises(ValueError, match=r"routes=.*junk.*: must be"):
        config.frozen()


def test_a_secret_is_not_in_the_repr() -> None:
    """Configurations may be logged at the start."""
    assert "hunter2" not in repr(WebSocketConfig(secret_key="hunter2"))
    assert "hunter2" not in repr(WebSocketConfig(secret_key=["hunter2"]).frozen())


def test_a_frozen_copy_cannot_be_changed() -> None:
    """The manager would not notice the change, but readers of the code would rely on it."""
    config = WebSocketConfig(heartbeat_interval=5)
    taken = config.frozen()
    assert isinstance(taken, WebSocketConfig)
    assert taken == config
    sentence = "heartbeat_interval: a manager has taken this configuration; change yours before that"
    with pytest.raises(dataclasses.FrozenInstanceError, match=sentence):
        taken.heartbeat_interval = 6
    with pytest.raises(AttributeError, match=sentence):
        del taken.heartbeat_interval
    assert taken.heartbeat_interval == 5


def test_later_changes_to_the_original_do_not_reach_the_frozen_copy() -> None:
    """The original can still be changed, and so can the lists and dicts it was given."""
    origins, beat, routes = ["a.example"], {"at": {"x": 1}}, {"/ws": Override(broadcast=False)}
    config = WebSocketConfig(allowed_origins=origins, custom_heartbeat=beat, routes=routes)
    taken = config.frozen()
    origins.append("b.example")
    beat["at"]["x"] = 2
    routes.clear()
    vars(config)["custom_heartbeat"]["at"]["x"] = 3
    config.heartbeat_interval = 7
    del config.max_connections
    assert taken.heartbeat_interval == 30
    assert taken.allowed_origins == ("a.example",)
    assert taken.custom_heartbeat == {"at": {"x": 1}}
    assert not taken.for_path("/ws").broadcast


def test_freezing_a_frozen_configuration_returns_the_same_object() -> None:
    """Two managers may share it."""
    taken = WebSocketConfig().frozen()
    assert taken.frozen() is taken


def test_a_replaced_copy_of_a_frozen_configuration_can_be_changed() -> None:
    """``dataclasses.replace`` makes a new configuration that is not frozen."""
    free = dataclasses.replace(WebSocketConfig(max_connections=5).frozen(), heartbeat_interval=3)
    free.heartbeat_interval = 4
    assert (free.max_connections, free.heartbeat_interval) == (5, 4)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_configuration_can_be_copied_and_sent_to_another_process(frozen: bool) -> None:
    """Worker processes may be started with one."""
    config = WebSocketConfig(heartbeat_interval=5, routes={"/feed/*": Override(broadcast=False)})
    config = config.frozen() if frozen else config
    for travelled in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert travelled == config
        assert not travelled.for_path("/feed/1").broadcast
        if frozen:
            with pytest.raises(dataclasses.FrozenInstanceError):
                travelled.heartbeat_interval = 6
    assert dataclasses.asdict(config)["heartbeat_interval"] == 5


def test_a_subclass_may_add_options_of_its_own() -> None:
    """They are not checked, but are kept in the frozen copy."""

    @dataclasses.dataclass
    class Chat(WebSocketConfig):
        motd: str = "hello"

    taken = Chat(motd="welcome", heartbeat_interval=5).frozen()
    assert isinstance(taken, Chat)
    assert (taken.motd, taken.heartbeat_interval) == ("welcome", 5)
    with pytest.raises(ValueError, match="heartbeat_interval=0"):
        Chat(heartbeat_interval=0)


# Overrides and routes.


def test_an_override_contains_only_the_options_it_was_given() -> None:
    """It keeps them as the configuration would; ``None`` is a value."""
    override = Override(heartbeat_interval=5, heartbeat_type="off", rate_limit=None)
    assert override.fields == {"heartbeat_interval": 5.0, "heartbeat_type": HeartbeatType.OFF, "rate_limit": None}
    assert repr(override) == (
        "Override(heartbeat_interval=5.0, heartbeat_type=<HeartbeatType.OFF: 'off'>, rate_limit=None)"
    )
    assert override == Override(heartbeat_type="off", rate_limit=None, heartbeat_interval=5.0)
    assert override != Override(heartbeat_interval=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        override.fields = {}  # type: ignore[misc]


def test_the_options_of_one_connection_are_listed() -> None:
    """Each of them is an option of the configuration."""
    assert set(PER_CONNECTION) == {
        "heartbeat_interval",
        "heartbeat_timeout",
        "heartbeat_type",
        "custom_heartbeat",
        "max_message_size",
        "compression",
        "compression_threshold",
        "max_memory_per_connection",
        "allowed_origins",
        "accept_timeout",
        "idle_timeout",
        "max_connection_age",
        "inbound",
        "outbound",
        "rate_limit",
        "authorize",
        "broadcast",
        "max_connections_per_client",
        "duplicate_client",
    }
    assert set(PER_CONNECTION) < set(DEFAULTS)


DIFFERENT = {
    "heartbeat_interval": 5.0,
    "heartbeat_timeout": 5.0,
    "heartbeat_type": HeartbeatType.OFF,
    "custom_heartbeat": "beat",
    "max_message_size": None,
    "compression": CompressionMode.NONE,
    "compression_threshold": 1,
    "max_memory_per_connection": 1024,
    "allowed_origins": "*",
    "accept_timeout": None,
    "idle_timeout": 5.0,
    "max_connection_age": 5.0,
    "inbound": Inbound(max_messages=1),
    "outbound": Outbound(max_messages=1),
    "rate_limit": RateLimit(1),
    "authorize": authorize,
    "broadcast": False,
    "max_connections_per_client": 2,
    "duplicate_client": "allow",
}


@pytest.mark.parametrize("name", PER_CONNECTION)
def test_each_option_of_one_connection_can_be_overridden(name: str) -> None:
    """The override holds for its path and for no other."""
    fields: dict[str, Any] = {name: DIFFERENT[name]}
    config = WebSocketConfig(routes={"/ws": Override(**fields)}).frozen()
    expected = WebSocketConfig(**fields)
    assert config.for_path("/ws") == expected
    assert getattr(config.for_path("/other"), name) == DEFAULTS[name] != DIFFERENT[name]


@pytest.mark.parametrize("name", [*sorted(set(DEFAULTS) - set(PER_CONNECTION)), "heartbeat"])
def test_an_option_of_the_whole_manager_is_refused_in_an_override(name: str) -> None:
    """The error lists the options that are allowed."""
    fields: dict[str, Any] = {name: 5}
    with pytest.raises(ValueError) as caught:
        Override(**fields)
    assert str(caught.value).startswith(f"Override.{name}: not an option of one connection; these are heartbeat_")
    assert [option for option in PER_CONNECTION if option not in str(caught.value)] == []


def test_a_value_that_is_not_allowed_is_refused_in_an_override() -> None:
    """It is refused when the override is made, before any path is looked up."""
    with pytest.raises(ValueError, match=r"Override\.idle_timeout=0: must be a number of seconds greater than 0"):
        Override(idle_timeout=0)


def test_an_override_takes_keywords_only() -> None:
    """The order of its options has no meaning."""
    with pytest.raises(TypeError):
        Override(5)  # type: ignore[call-arg]


def test_a_path_gets_the_first_override_that_matches() -> None:
    """Overrides are tried in the order in which they are written."""
    config = WebSocketConfig(
        heartbeat_timeout=9,
        routes={
            "/feed/secret": Override(broadcast=False),
            "/feed/*": Override(outbound=Outbound(policy="latest"), heartbeat_interval=5),
            "*": Override(idle_timeout=60),
        },
    ).frozen()
    secret, feed, other = (config.for_path(path) for path in ("/feed/secret", "/feed/a/b", "/chat"))
    assert (secret.broadcast, secret.heartbeat_interval, secret.idle_timeout) == (False, 30, None)
    assert feed.outbound.policy is SlowConsumerPolicy.LATEST
    assert (feed.broadcast, feed.heartbeat_interval, feed.heartbeat_timeout) == (True, 5, 9)
    assert (other.heartbeat_interval, other.idle_timeout) == (30, 60)


def test_a_path_without_an_override_gets_the_configuration_itself() -> None:
    """No copy is made."""
    config = WebSocketConfig(routes={"/ws": Override(broadcast=False)}).frozen()
    assert config.for_path("/other") is config


def test_no_configuration_is_made_or_kept_per_path() -> None:
    """Clients choose the paths, so one object serves all paths of an override, even under several patterns."""
    override = Override(broadcast=False)
    config = WebSocketConfig(routes={"/a/*": override, "/b": override}).frozen()
    merged = config.for_path("/b")
    assert all(config.for_path(f"/a/{number}") is merged for number in range(100))
    with pytest.raises(dataclasses.FrozenInstanceError):
        merged.broadcast = True
    assert merged.for_path("/b") is merged


def test_a_configuration_that_is_not_frozen_uses_its_current_values() -> None:
    """They may change between two calls."""
    config = WebSocketConfig(routes={"/ws": Override(broadcast=False)})
    assert config.for_path("/ws").heartbeat_interval == 30
    config.heartbeat_interval = 5
    assert config.for_path("/ws").heartbeat_interval == 5


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/ws", "/ws", True),
        ("/ws", "/ws/", False),
        ("/ws", "/w", False),
        ("*", "", True),
        ("*", "/a/b\nc", True),
        ("/ws/*", "/ws/", True),
        ("/ws/*", "/ws", False),
        ("/ws/*", "/ws/a/b", True),
        ("*/live", "/a/live", True),
        ("*/live", "/a/live/b", False),
        ("/a*/b", "/a/b", True),
        ("/ab*ba", "/aba", False),
        ("/a*b*c", "/a1b2c", True),
        ("/a*b*c", "/a1c2b", False),
        ("/a*b*b*c", "/abc", False),
        ("/a**c", "/ac", True),
        ("/[ab]?.x", "/[ab]?.x", True),
        ("/[ab]?.x", "/ab.x", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(pattern: str, path: str, matches: bool) -> None:
    """It also stands for slashes and line breaks; the pattern has to match the whole path."""
    config = WebSocketConfig(routes={pattern: Override(broadcast=False)}).frozen()
    assert config.for_path(path).broadcast is not matches


@given(pattern=st.text("/ab*", max_size=8), path=st.text("/ab", max_size=10))
def test_patterns_agree_with_fnmatch(pattern: str, path: str) -> None:
    """The standard library uses a regular expression, which is slow where our matching is not."""
    routes = {f"/{pattern}": Override(broadcast=False)}
    expected = fnmatch.fnmatchcase(f"/{path}", f"/{pattern}")
    assert WebSocketConfig(routes=routes).for_path(f"/{path}").broadcast is not expected


def test_a_hostile_path_does_not_take_long_to_match() -> None:
    """Five wildcards meet 64 KiB that nearly match; the work grows with the length, not with a power of it."""
    config = WebSocketConfig(routes={"/*a*a*a*a*b": Override(broadcast=False)}).frozen()
    assert config.for_path("/" + "a" * 65_536).broadcast


# The environment.


def test_an_environment_without_our_variables_gives_the_defaults() -> None:
    """Variables without the prefix are ignored."""
    assert WebSocketConfig.from_env(environ={"PATH": "/bin", "HEARTBEAT_INTERVAL": "5"}) == WebSocketConfig()


def test_the_environment_of_the_process_is_read_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix is ``WSSTAB_`` unless another one is given."""
    monkeypatch.setenv("WSSTAB_MAX_CONNECTIONS", "7")
    monkeypatch.setenv("CHAT_MAX_CONNECTIONS", "8")
    assert WebSocketConfig.from_env().max_connections == 7
    assert WebSocketConfig.from_env("CHAT_").max_connections == 8


def test_every_kind_of_option_is_read_from_the_environment() -> None:
    """There is a variable for each kind of option, and at least one for each group."""
    config = WebSocketConfig.from_env(
        environ={
            "WSSTAB_HEARTBEAT_INTERVAL": "25",
            "WSSTAB_HEARTBEAT_TYPE": "custom",
            "WSSTAB_CUSTOM_HEARTBEAT": "beat",
            "WSSTAB_MAX_CONNECTIONS": "1000",
            "WSSTAB_MAX_MESSAGE_SIZE": "none",
            "WSSTAB_ACCEPT_TIMEOUT": "",
            "WSSTAB_RECONNECT_TOKEN_TTL": "90",
            "WSSTAB_ENABLE_RECONNECT": "off",
            "WSSTAB_ENABLE_METRICS": "yes",
            "WSSTAB_LOG_LEVEL": "debug",
            "WSSTAB_SECRET_KEY": "new,old",
            "WSSTAB_ALLOWED_ORIGINS": "a.example, *.b.example",
            "WSSTAB_TRUSTED_PROXIES": "10.0.0.0/8",
            "WSSTAB_DUPLICATE_CLIENT": "allow",
            "WSSTAB_INBOUND_MAX_MESSAGES": "5",
            "WSSTAB_OUTBOUND_MAX_BYTES": "65536",
            "WSSTAB_OUTBOUND_POLICY": "latest",
            "WSSTAB_RATE_LIMIT_MESSAGES_PER_SECOND": "2.5",
            "WSSTAB_DRAIN_TIMEOUT": "5",
            "WSSTAB_DRAIN_HANDLE_SIGNALS": "false",
        }
    )
    assert config == WebSocketConfig(
        heartbeat_interval=25,
        heartbeat_type="custom",
        custom_heartbeat="beat",
        max_connections=1000,
        max_message_size=None,
        accept_timeout=None,
        reconnect_token_ttl=timedelta(seconds=90),
        enable_reconnect=False,
        enable_metrics=True,
        log_level="DEBUG",
        secret_key=("new", "old"),
        allowed_origins=("a.example", "*.b.example"),
        trusted_proxies=("10.0.0.0/8",),
        duplicate_client="allow",
        inbound=Inbound(max_messages=5),
        outbound=Outbound(max_bytes=65536, policy="latest"),
        rate_limit=RateLimit(2.5),
        drain=Drain(timeout=5, handle_signals=False),
    )


def test_only_functions_groups_and_routes_have_no_variable_of_their_own() -> None:
    """Every other option has one, and no name is ambiguous or looks like a variable of Kubernetes."""
    names = variables(CHECKS, GROUPS)
    missing = {name for name in DEFAULTS if name.upper() not in names}
    assert missing == {"client_address", "authorize", "routes", "hooks", *GROUPS}
    of_groups = sum(len(kind.CHECKS) for kind in GROUPS.values())
    assert len(names) == len(set(DEFAULTS) - missing) + of_groups
    assert [name for name in names if OF_KUBERNETES.fullmatch(name)] == []


def test_keyword_arguments_win_over_the_environment() -> None:
    """A group is replaced as a whole."""
    environ = {"WSSTAB_MAX_CONNECTIONS": "7", "WSSTAB_OUTBOUND_POLICY": "latest", "WSSTAB_NUM_SHARDS": "2"}
    config = WebSocketConfig.from_env(environ=environ, max_connections=9, outbound=Outbound(max_messages=5))
    assert (config.max_connections, config.num_shards) == (9, 2)
    assert config.outbound == Outbound(max_messages=5)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("WSSTAB_HEARTBEAT_INTERVALL", "5", "no such option; did you mean WSSTAB_HEARTBEAT_INTERVAL?"),
        ("WSSTAB_OUTBOUND_MAX_BYTE", "5", "no such option; did you mean WSSTAB_OUTBOUND_MAX_BYTES?"),
        ("WSSTAB_AUTHORIZE", "5", "WSSTAB_AUTHORIZE: cannot be set from the environment"),
        ("WSSTAB_HEARTBEAT_INTERVAL", "often", "WSSTAB_HEARTBEAT_INTERVAL='often': must be a number of seconds"),
        ("WSSTAB_NUM_SHARDS", "none", "WSSTAB_NUM_SHARDS='none': must be a whole number of shards"),
        ("WSSTAB_DRAIN_CODE", "1006", "WSSTAB_DRAIN_CODE='1006': must be a close code"),
        ("WSSTAB_RATE_LIMIT_BURST", "5", "WSSTAB_RATE_LIMIT_MESSAGES_PER_SECOND: must be set"),
    ],
)
def test_a_bad_variable_is_refused_with_its_name(variable: str, text: str, message: str) -> None:
    """The error suggests the nearest name, or says what is allowed."""
    with pytest.raises(ValueError) as caught:
        WebSocketConfig.from_env(environ={variable: text})
    assert message in str(caught.value)


def test_from_env_returns_an_instance_of_the_class_it_is_called_on() -> None:
    """It may be called on a subclass."""

    class Chat(WebSocketConfig):
        """A subclass, which could add methods."""

    assert type(Chat.from_env(environ={})) is Chat


def test_every_public_name_exists() -> None:
    """Groups and enums can be imported from this module too."""
    assert module.__all__ == sorted(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert all(isinstance(check, Check) for check in CHECKS.values())


def test_options_accept_texts_and_are_read_as_enum_members() -> None:
    """Type checkers check the annotations; the test shows that they are true at run time."""
    config = WebSocketConfig(heartbeat_type="off", reconnect_token_ttl=60, authorize=authorize)
    config.memory_eviction_policy = "fifo"
    kind: HeartbeatType = config.heartbeat_type
    eviction: MemoryEvictionPolicy = config.memory_eviction_policy
    ttl: timedelta = config.reconnect_token_ttl
    burst: int = RateLimit(1, burst=None).burst
    assert (kind.value, eviction.value, ttl.seconds, burst) == ("off", "fifo", 60, 1)


ACTS_ALONE = {
    *("broadcast", "custom_heartbeat", "drain", "duplicate_client", "enable_metrics", "enable_reconnect"),
    *("heartbeat_interval", "heartbeat_timeout", "heartbeat_type", "hooks", "idle_timeout", "log_level"),
    *("max_concurrent_broadcast", "max_concurrent_cleanup", "max_connection_age", "max_connections"),
    *("max_connections_per_client", "max_memory_per_connection", "max_total_memory", "memory_check_interval"),
    *("memory_eviction_policy", "num_shards", "outbound", "reconnect_token_ttl", "secret_key"),
}
"""Options that have an effect without the middleware."""


def test_each_option_is_known_to_need_the_middleware_or_not() -> None:
    """A new option has to be added to one of the two sets."""
    names = {field.name for field in dataclasses.fields(WebSocketConfig)}
    assert names == ACTS_ALONE | NEED_THE_MIDDLEWARE
    assert set() == ACTS_ALONE & NEED_THE_MIDDLEWARE


def test_only_options_that_are_set_count_as_dead_without_the_middleware() -> None:
    """A default value promises nothing."""
    assert dead_without_middleware(WebSocketConfig()) == []
    assert dead_without_middleware(WebSocketConfig(rate_limit=RateLimit(1), num_shards=2)) == ["rate_limit"]

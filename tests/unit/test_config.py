"""Settings: what is accepted, and the exact complaint about the rest."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from zdd_agent.config import load
from zdd_agent.errors import AgentError, Kind
from zdd_agent.model.auto_scaling import NoticeKind
from zdd_agent.model.aws import BalancerKind, MinHealthy
from zdd_agent.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def read(file: Path, text: str = "", **variables: str) -> Settings:
    file.write_text(text)
    return load({"ZDD_AGENT_CONFIG": str(file), **variables})


def complaint(file: Path, text: str = "", **variables: str) -> AgentError:
    with pytest.raises(AgentError) as caught:
        read(file, text, **variables)
    assert caught.value.kind is Kind.CONFIGURATION
    assert caught.value.hint
    return caught.value


def test_no_setting_is_needed(file: Path) -> None:
    settings = read(file)
    assert settings == Settings()
    assert str(settings.socket) == "/run/zdd-agent/agent.sock"
    assert str(settings.state_directory) == "/var/lib/zdd-agent"
    assert settings.target_groups == ()
    assert settings.access.operator_groups == ("zdd-agent",)


def test_polls_are_not_tighter_than_the_accounts_budget_allows_by_default(file: Path) -> None:
    poll = read(file).poll
    assert (poll.interval_seconds, poll.jitter_seconds) == (10, 5)


def test_every_table_is_read(file: Path) -> None:
    settings = read(
        file,
        """
        socket = "/tmp/agent.sock"
        state_directory = "/tmp/state"
        target_groups = ["web", "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/api/0"]
        [poll]
        interval_seconds = 12.5
        jitter_seconds = 0
        [timeouts]
        drain_seconds = 400
        [access]
        operator_users = ["deploy", "1001"]
        reader_groups = ["monitoring"]
        """,
    )
    assert settings.socket == Path("/tmp/agent.sock")  # noqa: S108  never opened
    assert settings.target_groups[0] == "web"
    assert (settings.poll.interval_seconds, settings.poll.jitter_seconds) == (12.5, 0)
    assert (settings.timeouts.drain_seconds, settings.timeouts.rejoin_seconds) == (400, None)
    assert settings.access.operator_users == ("deploy", "1001")
    assert settings.access.reader_groups == ("monitoring",)


def test_settings_cannot_be_changed_once_they_are_read(file: Path) -> None:
    with pytest.raises(ValidationError):
        read(file).poll.interval_seconds = 1.0  # type: ignore[misc]


def test_conf_d_is_laid_over_the_file_in_the_order_of_the_names(file: Path) -> None:
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d/20-late.toml").write_text("[poll]\ninterval_seconds = 20")
    (file.parent / "conf.d/10-early.toml").write_text("[poll]\ninterval_seconds = 10\njitter_seconds = 1")
    (file.parent / "conf.d/30-other.txt").write_text("not read")
    poll = read(file, "[poll]\ninterval_seconds = 5").poll
    assert (poll.interval_seconds, poll.jitter_seconds) == (20, 1)


def test_variables_are_laid_over_the_files(file: Path) -> None:
    settings = read(
        file, "[poll]\ninterval_seconds = 5\njitter_seconds = 2", ZDD_AGENT_POLL__INTERVAL_SECONDS="7", HOME="/root"
    )
    assert (settings.poll.interval_seconds, settings.poll.jitter_seconds) == (7, 2)


@pytest.mark.parametrize("text", ["web,api", " web , api ,", '["web", "api"]'])
def test_a_variable_holds_a_list_with_commas_or_as_toml(file: Path, text: str) -> None:
    assert read(file, ZDD_AGENT_TARGET_GROUPS=text).target_groups == ("web", "api")


def test_an_empty_variable_is_an_empty_list(file: Path) -> None:
    assert read(file, 'target_groups = ["web"]', ZDD_AGENT_TARGET_GROUPS="").target_groups == ()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('target_group = ["web"]', "`target_group`", "did you mean target_groups?"),
        ("[poll]\ninterval = 3", "`poll.interval`", "did you mean interval_seconds?"),
        ("[polls]\ninterval_seconds = 3", "`polls`", "did you mean poll?"),
        ("[access]\nzzz = 1", "`access.zzz`", "known here: operator_groups, operator_users, reader_groups, reader"),
        ("[poll]\n5 = 1", "`poll.5`", "known here: interval_seconds, jitter_seconds"),
    ],
)
def test_an_unknown_setting_is_named_with_its_file_and_the_nearest_known_one(
    file: Path, text: str, key: str, hint: str
) -> None:
    message = complaint(file, text).message
    assert f"{file}: unknown setting {key}" in message
    assert hint in message


@pytest.mark.parametrize(
    ("text", "found", "accepted"),
    [
        ("[poll]\ninterval_seconds = 0", "`poll.interval_seconds` is 0", "seconds between two looks, more than 0"),
        ("[poll]\ninterval_seconds = 'often'", "`poll.interval_seconds` is 'often'", "seconds"),
        ("[poll]\ninterval_seconds = true", "`poll.interval_seconds` is True", "seconds"),
        ("[poll]\njitter_seconds = nan", "`poll.jitter_seconds` is nan", "0 or more"),
        ("[poll]\njitter_seconds = -1", "`poll.jitter_seconds` is -1", "0 or more"),
        ("[timeouts]\ndrain_seconds = inf", "`timeouts.drain_seconds` is inf", "seconds, more than 0"),
        ("target_groups = 'web'", "`target_groups` is 'web'", "a list of target group names or ARNs"),
        ("target_groups = ['web', 5]", "`target_groups` is 5", "a list of target group names or ARNs"),
        ("[drain]\nignore_peers = ['10.0.7.7/24']", "`drain.ignore_peers` is ", "addresses and networks"),
        ("socket = 'agent.sock'", "`socket` is 'agent.sock'", "an absolute path"),
        ("socket = 5", "`socket` is 5", "an absolute path"),
        ("poll = 5", "`poll` is 5", "a table of interval_seconds, jitter_seconds"),
    ],
)
def test_a_malformed_value_is_named_with_file_key_what_was_found_and_what_is_accepted(
    file: Path, text: str, found: str, accepted: str
) -> None:
    message = complaint(file, text).message
    assert f"{file}: {found}" in message
    assert message.split("must be ")[1].startswith(accepted) or accepted in message.split("must be ")[1]


def test_a_malformed_variable_is_named_as_one(file: Path) -> None:
    message = complaint(file, ZDD_AGENT_POLL__INTERVAL_SECONDS="often").message
    assert "variable ZDD_AGENT_POLL__INTERVAL_SECONDS: `poll.interval_seconds` is 'often'" in message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ZDD_AGENT_SOKET", "unknown setting `soket`: did you mean ZDD_AGENT_SOCKET?"),
        ("ZDD_AGENT_TARGET_GROUP", "unknown setting `target_group`: did you mean ZDD_AGENT_TARGET_GROUPS?"),
        ("ZDD_AGENT_STATE_DIR", "unknown setting `state_dir`: did you mean ZDD_AGENT_STATE_DIRECTORY?"),
        (
            "ZDD_AGENT_POLL_INTERVAL_SECONDS",
            "unknown setting `poll_interval_seconds`: did you mean ZDD_AGENT_POLL__INTERVAL_SECONDS?",
        ),
        ("ZDD_AGENT_POLLS__JITTER_SECONDS", "unknown setting `polls`: did you mean ZDD_AGENT_POLL__JITTER_SECONDS?"),
        (
            "ZDD_AGENT_DRAIN__ZZZ",
            "unknown setting `drain.zzz`: known here: floor, floor_seconds, ignore_peers, quiet_seconds, until",
        ),
    ],
)
def test_a_variable_that_is_a_slip_is_an_error_with_the_right_name(file: Path, name: str, hint: str) -> None:
    assert f"variable {name}: {hint}" in complaint(file, **{name: "5"}).message


@pytest.mark.parametrize("name", ["ZDD_AGENT_VERSION", "ZDD_AGENT_SOCKET_PATH", "ZDD_AGENT_SERVICE_HOST", "ZDD_AGENT_"])
def test_a_variable_of_somebody_elses_is_a_warning_and_stops_nothing(
    file: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(file, **{name: "1.2.3"}) == Settings()
    assert f"ignored the variable {name}: it is not a setting of zdd-agent" in caplog.text


def test_variables_that_are_known_are_not_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(file, ZDD_AGENT_SOCKET="/run/x", ZDD_AGENT_FAILPOINT="aws", ZDD_AGENT_DRAIN__FLOOR_SECONDS__NETWORK="5")
    assert caplog.text == ""


def test_a_host_that_still_names_the_adaptive_floor_starts_and_is_told_that_it_is_fixed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(file, '[drain]\nfloor = "adaptive"')
    assert '`drain.floor = "adaptive"` now means "fixed"' in caplog.text


def test_the_fixed_floor_is_not_spoken_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(file, '[drain]\nfloor = "fixed"') == Settings()
    assert caplog.text == ""


def test_a_value_where_a_table_belongs_is_told_though_another_variable_sets_a_part_of_the_table(file: Path) -> None:
    message = complaint(
        file, ZDD_AGENT_DRAIN__FLOOR_SECONDS="4", ZDD_AGENT_DRAIN__FLOOR_SECONDS__APPLICATION="4"
    ).message
    assert (
        "variable ZDD_AGENT_DRAIN__FLOOR_SECONDS: `drain.floor_seconds` is '4': "
        "must be a table of application, gateway, network" in message
    )


def test_a_table_where_a_value_belongs_is_told_though_another_file_sets_the_value(file: Path) -> None:
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d/10-a.toml").write_text("[min_healthy]\npercent = 50")
    assert f"{file.parent}/conf.d/10-a.toml: `min_healthy`" in complaint(file, "min_healthy = 2").message


def test_the_file_at_fault_is_named_among_several(file: Path) -> None:
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d/10-a.toml").write_text("[poll]\njitter_seconds = 1")
    (file.parent / "conf.d/20-b.toml").write_text("[poll]\ninterval_seconds = 'often'")
    assert f"{file.parent}/conf.d/20-b.toml: `poll.interval_seconds`" in complaint(file, "[poll]").message


def test_every_fault_is_told_at_once(file: Path) -> None:
    message = complaint(file, "target_groups = 1\n[poll]\ninterval_seconds = 0").message
    assert "`target_groups` is 1" in message
    assert "`poll.interval_seconds` is 0" in message


def test_a_file_that_is_no_toml_is_named_with_the_line(file: Path) -> None:
    message = complaint(file, "ok = 1\nbroken [").message
    assert str(file) in message
    assert "line 2" in message


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(AgentError, match="cannot read"):
        load({"ZDD_AGENT_CONFIG": str(file)})


def test_a_file_that_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no-such"):
        load({"ZDD_AGENT_CONFIG": str(tmp_path / "no-such.toml")})


def test_every_kind_of_balancer_has_a_floor(file: Path) -> None:
    floors = read(file).drain.floor_seconds.by_kind
    assert floors == {BalancerKind.APPLICATION: 30.0, BalancerKind.NETWORK: 300.0, BalancerKind.GATEWAY: 300.0}


@pytest.mark.parametrize(
    ("text", "floor"), [("2", MinHealthy(2)), ("0", MinHealthy(0)), ('"50%"', MinHealthy(percent=50.0))]
)
def test_min_healthy_is_a_number_or_a_percentage(file: Path, text: str, floor: MinHealthy) -> None:
    assert read(file, f"min_healthy = {text}\n").healthy == floor
    assert read(file, ZDD_AGENT_MIN_HEALTHY=text.strip('"')).healthy == floor


@pytest.mark.parametrize("text", ["-1", '"101%"', '"half"', "true", "1.5"])
def test_another_min_healthy_is_refused_with_what_is_accepted(file: Path, text: str) -> None:
    said = complaint(file, f"min_healthy = {text}\n").message
    assert "a number of targets, 0 or more, or a percentage" in said


def test_what_ends_an_instance_is_ignored_unless_a_setting_asks_for_it() -> None:
    plain = Settings()
    assert plain.auto_scaling.mode == "off"
    assert plain.notices.heeded == {}


def test_an_unknown_mode_is_refused_with_those_that_there_are(file: Path) -> None:
    said = complaint(file, '[auto_scaling]\nmode = "park"').message
    assert "must be `off`, `watch`, `strict` or `standby`" in said


def test_a_notice_is_heeded_by_a_variable_too(file: Path) -> None:
    found = read(file, ZDD_AGENT_NOTICES__SPOT="drain")
    assert found.notices.heeded == {NoticeKind.SPOT: "drain"}


def test_slots_are_off_until_a_table_and_a_name_are_set(file: Path) -> None:
    assert read(file).slots is None
    said = complaint(file, '[slots]\ntable = "zdd-agent-slots"\n').message
    assert f"{file}: `slots.name` is missing: must be the service" in said


@pytest.mark.parametrize("limit", ["1", "3", '"25%"', '"0.5%"'])
def test_a_limit_of_slots_is_a_number_or_a_percentage(file: Path, limit: str) -> None:
    text = f'[slots]\ntable = "zdd-agent-slots"\nname = "web"\nlimit = {limit}\n'
    slots = read(file, text).slots
    assert slots is not None
    assert str(slots.limit) == limit.strip('"')


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "true", '"0%"', '"101%"', '"%"', '"many"'])
def test_any_other_limit_of_slots_is_refused(file: Path, limit: str) -> None:
    said = complaint(file, f'[slots]\ntable = "zdd-agent-slots"\nname = "web"\nlimit = {limit}\n').message
    assert "must be a number of hosts, 1 or more, or a percentage such as '25%'" in said


def test_variables_set_slots_too_and_a_typo_in_one_is_named(file: Path) -> None:
    given = {"ZDD_AGENT_SLOTS__TABLE": "zdd-agent-slots", "ZDD_AGENT_SLOTS__NAME": "web"}
    slots = read(file, ZDD_AGENT_SLOTS__LIMIT="2", **given).slots
    assert slots is not None
    assert (slots.table, slots.rules.name, slots.rules.limit.number) == ("zdd-agent-slots", "web", 2)
    assert "did you mean limit?" in complaint(file, ZDD_AGENT_SLOTS__LIMITS="2", **given).message


def test_a_container_has_a_port_and_either_a_name_or_a_unit(file: Path) -> None:
    container = read(file, '[container]\nname = "web"\nport = 8080\ncontainer_port = 80').container
    assert (container.name, container.unit, container.port, container.container_port) == ("web", None, 8080, 80)
    assert read(file).container.port is None


@pytest.mark.parametrize(
    "text", ['name = "web"', "port = 80", 'name = "web"\nunit = "web.service"\nport = 80', "container_port = 80"]
)
def test_half_a_container_is_an_error(file: Path, text: str) -> None:
    said = complaint(file, f"[container]\n{text}").message
    assert "must be a table with `port`, and with either `name` or `unit`" in said


@pytest.mark.parametrize("port", ["0", "65536", "true", '"http"'])
def test_a_container_s_port_is_a_port(file: Path, port: str) -> None:
    said = complaint(file, f'[container]\nname = "web"\nport = {port}').message
    assert "must be the port of this host that is published, 1 to 65535" in said

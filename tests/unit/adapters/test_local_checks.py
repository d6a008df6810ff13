"""What `check-config` says of the state directory."""

from pathlib import Path

import pytest

from zdd_agent.adapters.local_checks import check_state_directory
from zdd_agent.errors import AgentError, Kind
from zdd_agent.settings import DEFAULT_STATE_DIRECTORY


@pytest.mark.skipif(DEFAULT_STATE_DIRECTORY.exists(), reason="run it on a host without the package")
def test_the_default_folder_may_be_missing_where_the_service_is_installed_which_makes_it(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        check_state_directory(DEFAULT_STATE_DIRECTORY, [tmp_path])
    assert caught.value.kind is Kind.CONFIGURATION
    (tmp_path / "zdd-agent.service").touch()
    check_state_directory(DEFAULT_STATE_DIRECTORY, [tmp_path])


def test_another_folder_has_to_be_there_even_so(tmp_path: Path) -> None:
    (tmp_path / "zdd-agent.service").touch()
    with pytest.raises(AgentError):
        check_state_directory(tmp_path / "nowhere", [tmp_path])


def test_a_lock_that_is_a_link_is_refused_as_the_daemon_refuses_it(tmp_path: Path) -> None:
    check_state_directory(tmp_path)
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AgentError):
        check_state_directory(tmp_path)

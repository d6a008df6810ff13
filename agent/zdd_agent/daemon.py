"""The composition root: builds the real adapters, listens, and turns the loop until it is told to stop."""

from __future__ import annotations

import errno
import gc
import grp
import logging
import os
import pwd
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zdd_agent import __version__
from zdd_agent.adapters.aws import Aws
from zdd_agent.adapters.clock import SystemClock
from zdd_agent.adapters.ec2 import Ec2
from zdd_agent.adapters.elbv2 import Elbv2
from zdd_agent.adapters.failpoints import watched
from zdd_agent.adapters.imds import InstanceMetadata
from zdd_agent.adapters.journal import log_to
from zdd_agent.adapters.local_checks import boot_id, check_state_directory, socket_mode, state_folder
from zdd_agent.adapters.probe import LocalProbe
from zdd_agent.adapters.sensor import KernelSensor
from zdd_agent.adapters.store import FileStore
from zdd_agent.adapters.supervisor import Systemd, passed_listener
from zdd_agent.api.access import Policy, numbers
from zdd_agent.api.answers import error_response
from zdd_agent.api.dispatch import Api
from zdd_agent.api.transport import Transport, turn_away
from zdd_agent.config import load
from zdd_agent.engine.build import Outside, build_engine, build_reports
from zdd_agent.errors import EXIT_OK, AgentError, Kind
from zdd_agent.ports import AutoScaling, Clock, Postures, Sensor, Slots
from zdd_agent.settings import AccessSettings, Settings

if TYPE_CHECKING:
    from zdd_agent.adapters.namespace_opener import NamespaceOpener
    from zdd_agent.engine.doctor import Check

log = logging.getLogger("zdd_agent")

# Seconds in which answers under way can still be sent when the daemon stops.
GOODBYE_SECONDS = 2.0
# Seconds in which a live daemon accepts a connection. One that does not is still no reason to start a second one.
PROBE_SECONDS = 1.0
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def serve() -> int:
    """Run the daemon until SIGTERM or SIGINT. Raises AgentError when it cannot start."""
    log_to(os.environ)
    # Every thread inherits the mask, and one thread takes the signals. A handler would not do: `stop` takes locks
    # that the interrupted thread may hold.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    passed = passed_listener()
    try:
        return _serve(passed)
    except AgentError as error:
        # As long as somebody waits at the socket that systemd holds, systemd starts the daemon again, and at once.
        if passed is not None:
            turn_away(passed, error_response(error))
        raise


def _serve(passed: socket.socket | None) -> int:
    settings = load(os.environ)
    # Before anything reads the state: it may belong to a daemon that is running.
    listener = passed or _listen(settings)
    files = FileStore(settings.state_directory)
    files.claim()
    clock = SystemClock()
    metadata = InstanceMetadata(os.environ)
    clients = Aws(metadata, os.environ)
    opener = _opener(settings)
    outside = Outside(
        clock=clock,
        metadata=metadata,
        aws=watched("aws", Elbv2(clients.elbv2), os.environ),
        instances=Ec2(clients.ec2),
        prober=LocalProbe(metadata),
        sensor=_sensor(clock, settings, opener),
        store=watched("store", files, os.environ),
        auto_scaling=_auto_scaling(clients, settings),
        slots=_slots(clients, settings, clock),
        postures=_postures(),
    )
    supervisor = Systemd()
    engine = build_engine(outside, supervisor, settings, boot_id(os.environ))
    local: list[tuple[str, Check]] = [
        ("socket", partial(socket_mode, settings.socket)),
        ("state", partial(state_folder, files, settings.state_directory)),
    ]
    if opener is not None:
        local.append(("container", opener.check))
    if settings.outdated:
        local.append(("settings", partial(str, settings.outdated)))
    reporter, doctor = build_reports(outside, engine, settings, files.notices, local)
    counts = engine.lifecycle.counts if engine.lifecycle is not None else dict
    api = Api(engine.ledger, reporter, doctor, clock, _policy(settings.access), counts, engine.slots)
    transport = Transport(listener, api.handle, error_response)

    def stop() -> None:
        # First, or whoever waits asks again at once: the loop may still be in a call to AWS for many seconds.
        transport.stop_accepting()
        engine.runner.stop()

    # What was built so far stays for good: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    transport.start()
    threading.Thread(target=_stop_on_signal, args=(stop,), name="signals", daemon=True).start()
    log.info("zdd-agent %s listens on %s", __version__, listener.getsockname())
    engine.runner.run()
    supervisor.stopping()
    transport.close(GOODBYE_SECONDS)
    log.info("stopped")
    return EXIT_OK


def _opener(settings: Settings) -> NamespaceOpener | None:
    if settings.container.port is None:
        return None
    from zdd_agent.adapters.namespace_opener import SOCKET_NAME, NamespaceOpener  # noqa: PLC0415  where a setting asks

    return NamespaceOpener(settings.socket.with_name(SOCKET_NAME))


def _sensor(clock: SystemClock, settings: Settings, opener: NamespaceOpener | None) -> Sensor:
    host, port = KernelSensor(clock.now), settings.container.port
    if opener is None or port is None:
        return host
    from zdd_agent.adapters.container_sensor import ContainerSensor  # noqa: PLC0415  only where a setting asks for it

    inner = settings.container.container_port or port
    return ContainerSensor(host, opener.open, port=port, container_port=inner, now=clock.now)


def _auto_scaling(clients: Aws, settings: Settings) -> AutoScaling | None:
    if settings.auto_scaling.mode == "off":
        return None
    from zdd_agent.adapters.auto_scaling import Ec2AutoScaling  # noqa: PLC0415  only where a setting asks for it

    return watched("auto_scaling", Ec2AutoScaling(clients.autoscaling), os.environ)


def _slots(clients: Aws, settings: Settings, clock: Clock) -> Slots | None:
    if settings.slots is None:
        return None
    from zdd_agent.adapters.dynamodb import DynamoDbSlots  # noqa: PLC0415  only where a setting asks for it

    slots = DynamoDbSlots(clients.dynamodb, settings.slots.table, settings.slots.name, clock.now)
    return watched("slots", slots, os.environ)


def _postures() -> Postures | None:
    if "RUNTIME_DIRECTORY" not in os.environ:
        return None
    from zdd_agent.adapters.posture_files import PostureFiles, given_folder  # noqa: PLC0415  only where systemd gives it

    return PostureFiles(folder) if (folder := given_folder(os.environ)) is not None else None


def check_config() -> Settings:
    """The settings as the daemon would use them. Raises AgentError CONFIGURATION where it would not start with them."""
    settings = load(os.environ)
    check_state_directory(settings.state_directory)
    return settings


def _stop_on_signal(stop: Callable[[], None]) -> None:
    signal.sigwait(_STOP_SIGNALS)
    stop()


def _policy(access: AccessSettings) -> Policy:
    def user(name: str) -> int:
        return pwd.getpwnam(name).pw_uid

    def group(name: str) -> int:
        return grp.getgrnam(name).gr_gid

    operators, no_user = numbers(access.operator_users, user)
    operator_groups, no_group = numbers(access.operator_groups, group)
    if "operator_groups" not in access.model_fields_set:
        no_group = ()  # the default group exists only where a package created it
    readers, no_reader = numbers(access.reader_users, user)
    reader_groups, no_reader_group = numbers(access.reader_groups, group)
    for name in (*no_user, *no_group, *no_reader, *no_reader_group):
        log.warning("no user or group %r on this host: nobody gets access through that name", name)
    return Policy(operators | {0, os.geteuid()}, operator_groups, readers, reader_groups)


def _listen(settings: Settings) -> socket.socket:
    path = settings.socket
    try:
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117)  # 0660 from the first moment, without a gap before a chmod
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        _give_to_group(path)
        listener.listen(128)
    except OSError as error:
        raise AgentError(
            Kind.CONFIGURATION,
            f"cannot listen on {path}: {error.strerror or error}",
            hint="set `socket` to a path in a folder that the agent may write",
            value="socket",
        ) from None
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves. Two daemons on one state folder would undo each other's work."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            log.warning("the process that serves %s does not answer", path)
        except ConnectionRefusedError:
            if not path.is_socket():  # somebody else's file refuses a connection too
                raise FileExistsError(errno.EEXIST, "a file that is not a socket is in its place") from None
            path.unlink()
            return
    raise AgentError(
        Kind.CONFIGURATION,
        f"cannot listen on {path}: another zdd-agent serves it",
        hint="stop that one first",
        value="socket",
    )


def _give_to_group(path: Path) -> None:
    try:
        gid = grp.getgrnam("zdd-agent").gr_gid
    except KeyError:
        return
    if os.geteuid() == 0 or gid in os.getgroups():
        os.chown(path, -1, gid)

"""Writes HAProxy's configuration: a frontend for each listener, a backend with empty server slots for each group.

https://docs.haproxy.org/2.6/configuration.html
"""

from collections.abc import Mapping
from pathlib import Path

from zdd_lab.model.target import HealthCheck, NodeSettings

SLOTS = 200  # servers of each backend: each registration takes another one, the oldest is reused

# `retries 0`: a request is never tried again, so that none that fails is hidden.
_GENERAL = """global
  stats socket {socket} mode 600 level admin
  nbthread 1
defaults
  mode http
  http-reuse always
  option forwardfor
  retries 0
  timeout connect 10s
  timeout client {idle}ms
  timeout http-keep-alive {idle}ms
  timeout server {response}ms
"""
_FRONTEND = """frontend f{port}
  bind {address}:{port}
  default_backend {backend}
"""
_BACKEND = """backend {backend}
  balance roundrobin
"""
# `pool-purge-delay`: after each, HAProxy closes half of the idle connections that it does not expect to need.
_SERVERS = """  timeout check {timeout}ms
  option httpchk
  http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {address}
  http-check expect status {matcher}
  default-server source {address} inter {interval}ms rise {rise} fall {fall} pool-purge-delay {purge}ms check{port}
  server-template s 1-{slots} 127.0.0.1:9 disabled
"""


def backend_name(group: str) -> str:
    """HAProxy's name for a target group, which may hold no slash."""
    return group.replace("/", ".")


def haproxy_config(
    address: str, socket: Path, groups: Mapping[int, str], checks: Mapping[str, HealthCheck], settings: NodeSettings
) -> str:
    """The whole configuration of a node.

    Args:
        address: the node's own, which it listens on and connects to servers from.
        groups: by the port of their listener. One without a check has no server yet: requests to it get 503.
        checks: by group; over HTTP.
    """
    idle, response = round(settings.idle_timeout * 1000), round(settings.response_timeout * 1000)
    text = _GENERAL.format(socket=socket, idle=idle, response=response)
    for port, group in sorted(groups.items()):
        text += _FRONTEND.format(port=port, address=address, backend=backend_name(group))
    for group in sorted({*groups.values(), *checks}):
        text += _BACKEND.format(backend=backend_name(group))
        if check := checks.get(group):
            text += _SERVERS.format(
                address=address,
                path=check.path,
                matcher=check.matcher,
                interval=round(check.interval * 1000),
                timeout=round(check.timeout * 1000),
                rise=check.healthy_threshold,
                fall=check.unhealthy_threshold,
                port=f" port {check.port}" if check.port else "",
                purge=max(1, idle // 6),
                slots=SLOTS,
            )
    return text

"""A host with containers whose ports are published by DNAT, and an outside: network namespaces, veth and nftables."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from containers import Container
from system import netns

T = TypeVar("T")
BRIDGE, BRIDGE6 = "10.88.0", "fd00:88::"
_ARRIVING = "type nat hook prerouting priority dstnat;"
_OWN = "type nat hook output priority -100;"
_LEAVING = "type nat hook postrouting priority srcnat;"
_HAIRPIN = f"ip saddr {BRIDGE}.0/24 ip daddr {BRIDGE}.0/24 masquerade"


def inside(place: Container, call: Callable[[], T]) -> T:
    """What `call` returns in a thread that is in there; a socket that it opens stays in there."""
    return netns.inside(place.path, call)


def run(place: Container, *words: str) -> None:
    """Run a program in there."""
    subprocess.run(["nsenter", f"--net={place.path}", *words], check=True)


class Outside:
    """A network with a bridge: the load balancer's side."""

    def __init__(self, prefix: str, own: Sequence[int] = (1, 2)) -> None:
        self.prefix, self.prefix6 = prefix, "fd00:77::"
        self.place = Container()
        run(self.place, "ip", "link", "add", "br0", "type", "bridge")
        for last in own:
            run(self.place, "ip", "addr", "add", f"{prefix}.{last}/24", "dev", "br0")
            run(self.place, "ip", "addr", "add", f"{self.prefix6}{last:x}/64", "dev", "br0", "nodad")
        run(self.place, "ip", "link", "set", "br0", "up")

    def link(self, address: str, namespace: str) -> None:
        """A way from this network to `eth0` of another namespace, by its process or its path."""
        here = f"v{address.rpartition('.')[2]}"
        run(self.place, "ip", "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run(self.place, "ip", "link", "set", here, "master", "br0", "up")


class PublishingHost:
    """A host on that network, and its containers on a bridge of its own."""

    def __init__(self, outside: Outside, address: str) -> None:
        self.outside, self.address = outside, address
        self.address6 = f"{outside.prefix6}{int(address.rpartition('.')[2]):x}"
        self.place = Container()
        self.containers: list[Container] = []
        outside.link(address, self._pid)
        run(self.place, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        run(self.place, "ip", "addr", "add", f"{self.address6}/64", "dev", "eth0", "nodad")
        run(self.place, "ip", "link", "set", "eth0", "up")
        run(self.place, "ip", "link", "add", "br0", "type", "bridge")
        run(self.place, "ip", "addr", "add", f"{BRIDGE}.1/24", "dev", "br0")
        run(self.place, "ip", "addr", "add", f"{BRIDGE6}1/64", "dev", "br0", "nodad")
        run(self.place, "ip", "link", "set", "br0", "up")
        forward = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run(self.place, "sysctl", "-q", "-w", *forward)

    @property
    def _pid(self) -> str:
        return str(self.place.pid)

    def container(self, argv: Sequence[str] = ("sleep", "600")) -> tuple[Container, int]:
        """A new container, and the last number of its address."""
        made, last = Container(argv), len(self.containers) + 2
        self.containers.append(made)
        run(self.place, "ip", "link", "add", f"c{last}", "type", "veth", "peer", "name", "eth0", "netns", str(made.pid))
        run(self.place, "ip", "link", "set", f"c{last}", "master", "br0", "up")
        run(made, "ip", "addr", "add", f"{BRIDGE}.{last}/24", "dev", "eth0")
        run(made, "ip", "addr", "add", f"{BRIDGE6}{last:x}/64", "dev", "eth0", "nodad")
        run(made, "ip", "link", "set", "eth0", "up")
        run(made, "ip", "route", "add", "default", "via", f"{BRIDGE}.1")
        run(made, "ip", "-6", "route", "add", "default", "via", f"{BRIDGE6}1")
        return made, last

    def publish(self, last: int, port: int, to: int) -> None:
        """Lead this port of the host to a container, in place of where it led before."""
        rule = f"meta nfproto ipv4 ip daddr {self.address} tcp dport {port} dnat ip to {BRIDGE}.{last}:{to}"
        rule6 = f"meta nfproto ipv6 ip6 daddr {self.address6} tcp dport {port} dnat ip6 to [{BRIDGE6}{last:x}]:{to}"
        chains = {"a": (_ARRIVING, rule, rule6), "o": (_OWN, rule, rule6), "l": (_LEAVING, _HAIRPIN)}
        body = "".join(f"chain {name} {{\n" + "\n".join(lines) + "\n}\n" for name, lines in chains.items())
        table = f"table inet published\ndelete table inet published\ntable inet published {{\n{body}}}\n"
        words = ["nsenter", f"--net={self.place.path}", "nft", "-f", "-"]
        subprocess.run(words, input=table, text=True, check=True)

    def close(self) -> None:
        for one in (*self.containers, self.place):
            with suppress(ProcessLookupError, ValueError):
                one.kill()

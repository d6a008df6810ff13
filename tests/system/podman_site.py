"""Rootful podman in a network and a mount namespace of its own: `unshare --net --mount python podman_site.py TREE`.

It runs v1 and then v2 of an app as the container `web`, with a published port, and prints one line of JSON for each:
what an outside client got, and what the sensor of an agent on this host sees of its connection, by way of the opener.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from containers import Container
from published import inside, run
from zdd_agent.adapters.container_sensor import ContainerSensor
from zdd_agent.adapters.namespace_opener import NamespaceOpener
from zdd_agent.adapters.sensor import KernelSensor

AGENT = Path(__file__).resolve().parents[2] / "agent"
HOST, CLIENT, PORT, INNER = "10.66.0.1", "10.66.0.2", 8080, 80
PODMAN = ["podman", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]
# A systemd that is PID 1 has both; here they would be above what crun may set.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
TREE = (
    "cd {}; tar -c bin lib lib64 usr/bin/python3 usr/bin/python3.11 usr/lib/python3.11"
    " usr/lib64 usr/lib/x86_64-linux-gnu/lib[cmz].so* usr/lib/x86_64-linux-gnu/libexpat.so*"
    " usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 2>/dev/null"
)
APP = """
import socket, sys
listener, kept = socket.create_server(("0.0.0.0", 80)), []
while True:
    kept.append(listener.accept()[0]); kept[-1].sendall(sys.argv[1].encode())
"""
OPENER = (
    "import socket, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from zdd_agent import opener;"
    "opener.serve(socket.socket(fileno=int(sys.argv[2])), 0, Path(sys.argv[3]), opener.Places())"
)


def podman(*words: str) -> None:
    subprocess.run([*PODMAN, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def prepare(tree: str) -> None:
    """This process's namespaces, in which podman runs, and an image `app:1`."""
    for words in (
        ("mount", "--make-rprivate", "/"),
        ("mount", "-t", "tmpfs", "tmpfs", "/run"),
        ("mkdir", "-p", "/run/lock", "/run/netns", "/run/etc", "/var/lib/containers"),
        ("mount", "-t", "tmpfs", "tmpfs", "/var/lib/containers"),
        ("ip", "link", "set", "lo", "up"),
    ):
        subprocess.run(words, check=True)
    # crun refuses a host with both versions of cgroups.
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=False, stderr=subprocess.DEVNULL)
    made = subprocess.Popen(["sh", "-c", TREE.format(tree)], stdout=subprocess.PIPE)
    subprocess.run([*PODMAN, "import", "-q", "-", "app:1"], stdin=made.stdout, check=True, stdout=subprocess.DEVNULL)
    made.wait()


def client_outside() -> Container:
    """A client outside this host."""
    outside = Container()
    words = f"link add up0 type veth peer name up0 netns {outside.pid}"
    subprocess.run(["ip", *words.split()], check=True)
    for place, address in ((None, HOST), (outside, CLIENT)):
        for command in (f"ip addr add {address}/24 dev up0", "ip link set up0 up"):
            if place is None:
                subprocess.run(command.split(), check=True)
            else:
                run(place, *command.split())
    return outside


def connected(outside: Container) -> tuple[socket.socket, str]:
    """A connection from outside, and what the app said on it: it starts meanwhile."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            made = inside(outside, lambda: socket.create_connection((HOST, PORT), 2.0))
            if said := made.recv(10):
                return made, said.decode()
            made.close()
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the app does not answer")


def main() -> None:
    prepare(sys.argv[1])
    outside = client_outside()
    settings, path = Path("/run/etc/config.toml"), Path("/run/netns.sock")
    settings.write_text(f'[container]\nname = "web"\nport = {PORT}\n')
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    number = listener.fileno()
    words = [sys.executable, "-ISc", OPENER, str(AGENT), str(number), str(settings)]
    opener = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], pass_fds=(number,))
    now = time.monotonic
    sensor = ContainerSensor(KernelSensor(now), NamespaceOpener(path).open, port=PORT, container_port=INNER, now=now)
    try:
        for version in ("v1", "v2"):
            podman(
                "run",
                "-d",
                "--rm",
                "--name",
                "web",
                "-p",
                f"{PORT}:{INNER}",
                *LIMITS,
                "app:1",
                "/usr/bin/python3",
                "-c",
                APP,
                version,
            )
            client, said = connected(outside)
            sample = sensor.sample(frozenset({PORT}), frozenset({HOST}))
            blind = KernelSensor(now).sample(frozenset({PORT}), frozenset({HOST}))
            seen = [c.port for c in sample.connections if (c.peer, c.peer_port) == client.getsockname()]
            podman("rm", "-f", "-t", "0", "web")
            gone = sensor.sample(frozenset({PORT}), frozenset({HOST}))
            ended = [c.port for c in gone.ended if (c.peer, c.peer_port) == client.getsockname()]
            print(json.dumps([said, seen, len(blind.connections), ended, len(gone.connections)]), flush=True)
            client.close()
    finally:
        sensor.close()
        opener.kill()
        opener.wait()
        subprocess.run([*PODMAN, "rm", "-f", "-t", "0", "-a"], check=False, stdout=subprocess.DEVNULL)
        outside.kill()


if __name__ == "__main__":
    main()

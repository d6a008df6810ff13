"""What the kernel says about the other end of a socket."""

import os
import socket
import subprocess
import sys

import pytest

from zdd_agent.api.peercred import peer_of

CONNECT_AS_ANOTHER = """
import os, socket, sys
os.setgroups([54323, 54324]); os.setgid(54322); os.setuid(54321)
caller = socket.socket(socket.AF_UNIX)
caller.connect("\\0" + sys.argv[1])
caller.recv(1)
"""


def test_the_peer_is_the_process_that_connected_with_its_user_and_every_group() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_seen_with_its_own_numbers_and_extra_groups() -> None:
    name = f"zdd-{os.getpid()}"  # abstract: there is no folder that the other user would have to enter
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        with subprocess.Popen([sys.executable, "-c", CONNECT_AS_ANOTHER, name]) as process:
            connected, _ = listener.accept()
            with connected:
                peer = peer_of(connected)
    assert (peer.pid, peer.uid) == (process.pid, 54321)
    assert peer.groups == {54322, 54323, 54324}

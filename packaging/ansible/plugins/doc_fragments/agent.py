# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""The parts that the documentation of all modules shares."""

from __future__ import annotations


class ModuleDocFragment:
    """The parts, by name."""

    SOCKET = r"""
options:
  socket:
    description:
      - The agent's socket on the managed host.
      - If it is not given, the environment variable E(ZDD_AGENT_SOCKET) of the managed host is used.
    type: path
    default: /run/zdd-agent/agent.sock
author:
  - The zdd-agent authors (@zdd-agent)
requirements:
  - zdd-agent on the managed host
  - Python 3.8 or newer on the managed host
notes:
  - Only root and the group C(zdd-agent) may operate the agent, so this usually needs C(become=true).
  - No AWS credentials are needed on either side; the agent uses the role of its instance.
  - The operation belongs to the agent. It goes on when the connection or the control machine is lost, and the next run
    joins it or finds it done.
"""

    OPERATION = r"""
options:
  timeout:
    description:
      - Give up after this many seconds, more than 0 and at most 172800.
      - If it is not given, it is derived from the target groups.
    type: float
  reason:
    description: One line of printable text for the agent's log.
    type: str
    default: Ansible
  when_busy:
    description:
      - What to do if the other operation is under way on this host, as after a run that was cut off.
      - V(wait) waits for its end first. V(fail) fails at once with RV(kind=busy).
    type: str
    choices: [wait, fail]
    default: wait
attributes:
  check_mode:
    support: full
    description: A dry run with all checks of the agent; fails if the operation would be refused at once.
  diff_mode:
    support: full
    description: The posture and the state of each target, before and after.
"""

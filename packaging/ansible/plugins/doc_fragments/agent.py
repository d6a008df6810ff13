# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the modules' documentation has in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments by name."""

    SOCKET = r"""
options:
  socket:
    description:
      - The agent's socket on the managed host.
      - Taken from the environment variable E(ZDD_AGENT_SOCKET) of the managed host when it is not given.
    type: path
    default: /run/zdd-agent/agent.sock
author:
  - The zdd-agent authors (@zdd-agent)
requirements:
  - zdd-agent on the managed host
  - Python 3.8 or newer on the managed host
notes:
  - The agent lets in root and the group C(zdd-agent), so this mostly needs C(become=true).
  - No AWS credentials are needed on either side; the agent uses the role of its instance.
  - The operation belongs to the agent. When the connection or the control machine is lost it goes on, and the next run
    joins it or finds it done.
"""

    OPERATION = r"""
options:
  timeout:
    description:
      - Seconds after which the operation ends as timed out, O(timeout) greater than 0 and at most 172800.
      - Derived from the target groups when it is not given.
    type: float
  reason:
    description: Printable text on one line for the agent's log.
    type: str
    default: Ansible
  when_busy:
    description:
      - What to do while the other verb is under way on this host, as after a run that was cut off.
      - With V(wait) its end is waited for first, with V(fail) the module fails with RV(kind=busy).
    type: str
    choices: [wait, fail]
    default: wait
attributes:
  check_mode:
    support: full
    description: A dry run of the agent's, with all its checks; fails where the operation would be refused at once.
  diff_mode:
    support: full
    description: The posture and the state of each target, before and after.
"""

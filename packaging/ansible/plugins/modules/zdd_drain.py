#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Take this host out of its load balancers"""

from __future__ import annotations

DOCUMENTATION = r"""
module: zdd_drain
short_description: Take this host out of its load balancers
version_added: 0.1.0
description:
  - Deregisters the host from each of its target groups and returns when no load balancer can send it work and none is
    left on it.
  - Changes nothing on a host that is drained already, and joins a drain that is under way.
  - Refused if it would leave a target group with fewer healthy targets than the agent's C(min_healthy).
options:
  force:
    description: Names of the checks to skip. The agent logs who asked for it.
    type: list
    elements: str
    choices: [min-healthy, slot]
    default: []
  until:
    description:
      - What ends the drain, see C(docs/operations.md). If it is not given, the agent's settings decide.
    type: str
    choices: [closed, idle, unused]
  wait:
    description: Keep retrying a refused drain for this many seconds.
    type: float
    default: 0.0
extends_documentation_fragment:
  - zdd.agent.agent.socket
  - zdd.agent.agent.operation
seealso:
  - module: zdd.agent.zdd_rejoin
  - module: zdd.agent.zdd_status
"""

EXAMPLES = r"""
- name: Take this host out before the restart
  zdd.agent.zdd_drain:
    reason: "release {{ version }}"
  become: true

- name: The same, but retry for ten minutes while other hosts are missing
  zdd.agent.zdd_drain:
    wait: 600
    timeout: 1200
  become: true

# This works without the collection; `changed` comes from the agent.
- name: Take this host out with the command
  ansible.builtin.command:
    argv: [zdd-agent, drain, --json]
  become: true
  register: drained
  changed_when: drained.rc == 0 and (drained.stdout | from_json).changed
"""

RETURN = r"""
msg:
  description: What was done, or why it failed, as the agent says it.
  returned: always
  type: str
  sample: drained 1 target of 1 target group in 12 s
kind:
  description:
    - The meaning of the exit code, in one word. V(done), or the reason of the failure.
    - The whole list is in the agent's C(docs/api.md). The most frequent ones are V(refused) by a guard, V(timed_out),
      V(unreachable), V(aws_denied), V(busy), V(forbidden) and V(failed).
  returned: always
  type: str
  sample: done
rc:
  description: The exit code that C(zdd-agent drain) would have had.
  returned: always
  type: int
  sample: 0
hint:
  description: What to do next.
  returned: on failure
  type: str
value:
  description: The thing that the failure is about, such as a setting, an AWS action or a target group.
  returned: on failure
  type: str
operation:
  description: The operation as the agent records it. Moments are seconds since the epoch.
  returned: when an operation was carried out
  type: dict
  contains:
    id: {description: Its ID., type: str, returned: always}
    outcome: {description: How it ended., type: str, returned: always, sample: succeeded}
    phase: {description: Where it ended., type: str, returned: always, sample: settled}
    changed: {description: Whether there was something to do., type: bool, returned: always}
    age_seconds: {description: How long ago it was started., type: float, returned: always}
events:
  description: What the agent said during the operation.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.zdd.agent.plugins.module_utils.agent import operate, operation_spec


def main():
    """Run the module."""
    spec = operation_spec(["min-healthy", "slot"])
    spec["until"] = {"type": "str", "choices": ["closed", "idle", "unused"]}
    spec["wait"] = {"type": "float", "default": 0.0}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    given = module.params
    operate(module, "drain", {"until": given["until"], "retry_seconds": given["wait"]})


if __name__ == "__main__":
    main()

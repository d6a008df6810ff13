#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright 2026 The zdd-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Show where this host stands"""

from __future__ import annotations

DOCUMENTATION = r"""
module: zdd_status
short_description: Show where this host stands
version_added: 0.1.0
description:
  - Returns the host's posture towards its load balancers, its targets and the operation under way, if any.
  - Changes nothing. It also answers when AWS cannot be reached, and says so in RV(warnings_of_agent).
options: {}
extends_documentation_fragment:
  - zdd.agent.agent.socket
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: There is nothing to compare.
seealso:
  - module: zdd.agent.zdd_drain
  - module: zdd.agent.zdd_rejoin
"""

EXAMPLES = r"""
- name: Ask the agent
  zdd.agent.zdd_status:
  become: true
  register: host

- name: Stop where a host is out
  ansible.builtin.assert:
    that: host.posture == "in_service"
"""

RETURN = r"""
msg:
  description: The posture and the instance, in one line.
  returned: success
  type: str
posture:
  description: Where the host stands.
  returned: success
  type: str
  sample: in_service
instance_id: {description: The instance., type: str, returned: success}
region: {description: Its Region., type: str, returned: success}
zone: {description: Its Availability Zone., type: str, returned: success}
targets:
  description: Every target that is this host, with the state as ELBv2 spells it.
  returned: success
  type: list
  elements: dict
seen_seconds_ago: {description: The age of the targets' states., type: float, returned: success}
drained_since: {description: Since when the host is out. Seconds since the epoch., type: float, returned: success}
operation: {description: The operation under way or the last one., type: dict, returned: success}
auto_scaling: {description: Where the host stands in its Auto Scaling group., type: str, returned: success}
warnings_of_agent: {description: Warnings of the agent., type: list, elements: str, returned: success}
version: {description: The agent's version., type: str, returned: success}
kind: {description: V(done) or the reason of the failure., type: str, returned: always}
rc: {description: The exit code that C(zdd-agent status) would have had., type: int, returned: always}
hint: {description: What to do next., type: str, returned: on failure}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.zdd.agent.plugins.module_utils.agent import Agent, AgentError, fail, socket_spec


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=socket_spec(), supports_check_mode=True)
    try:
        status = Agent(module.params["socket"]).status()
    except AgentError as error:
        fail(module, error)
    # Ansible uses the name `warnings` itself.
    status["warnings_of_agent"] = status.pop("warnings")
    said = f"{status['posture']} {status['instance_id'] or '(host not known yet)'}"
    module.exit_json(changed=False, kind="done", rc=0, msg=said, **status)


if __name__ == "__main__":
    main()

"""Instances that somebody else makes, as Terraform does, come to life in the lab."""

import json

from lab.conftest import SHORT, free_prefix
from rollout import agent, posture
from zdd_lab.model.iam import Policy
from zdd_lab.threaded import ThreadedLab

READ_ONLY = {"Effect": "Allow", "Action": "elasticloadbalancing:Describe*", "Resource": "*"}


def test_an_instance_of_somebody_elses_gets_app_metadata_and_agent_with_the_roles_policy_and_no_other() -> None:
    with ThreadedLab(prefix=free_prefix(), profile=SHORT, hosts=0, seed=3) as running:
        lab = running.lab
        made = lab.client("ec2").run_instances(
            ImageId="ami-12c6146b", MinCount=2, MaxCount=2, SubnetId=lab.network.subnets["a"]
        )
        targets = [{"Id": one["InstanceId"], "Port": 8081} for one in made["Instances"]]
        lab.client("elbv2").register_targets(TargetGroupArn=lab.front.group, Targets=targets)

        policy = Policy.parse(json.dumps({"Version": "2012-10-17", "Statement": [READ_ONLY]}))
        hosts = running.run(lab.adopt(lab.front.group, policy))
        running.run(lab.wait_until_healthy())

        assert [host.name for host in hosts] == ["h1", "h2"]
        assert {host.identity.instance_id for host in hosts} == {target["Id"] for target in targets}
        assert posture(hosts[0]) == "in_service"
        refused = agent(hosts[0], "drain")
        assert refused.returncode == 6
        assert "elasticloadbalancing:DeregisterTargets" in refused.stderr

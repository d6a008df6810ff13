# The policy's text, statement by statement.

mock_provider "aws" {}

variables {
  target_group_arns = [
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef",
    "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/admin/fedcba9876543210",
  ]
}

run "nothing_is_asked_for" {
  command = plan

  assert {
    condition = aws_iam_policy.this.policy == jsonencode({
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "LeaveAndJoinTheseTargetGroups"
          Effect   = "Allow"
          Action   = ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"]
          Resource = var.target_group_arns
        },
        {
          Sid    = "SeeWhoIsHealthy"
          Effect = "Allow"
          Action = [
            "ec2:DescribeInstances",
            "elasticloadbalancing:DescribeLoadBalancerAttributes",
            "elasticloadbalancing:DescribeTargetGroupAttributes",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth",
          ]
          Resource  = "*"
          Condition = { StringEquals = { "aws:RequestedRegion" = "eu-central-1" } }
        },
      ]
    })
    error_message = "the policy is not the tightest one: ${aws_iam_policy.this.policy}"
  }

  assert {
    condition     = output.policy_json == aws_iam_policy.this.policy
    error_message = "the output is not the policy"
  }
}

run "everything_is_asked_for" {
  command = plan

  variables {
    auto_scaling_group_names = ["web", "web-blue"]
    slots                    = { name = "web" }
    deny_outside_instance    = true
  }

  assert {
    condition = [for one in jsondecode(output.policy_json).Statement : one.Sid] == [
      "LeaveAndJoinTheseTargetGroups", "SeeWhoIsHealthy", "AnswerTheHooksOfTheseAutoScalingGroups", "SeeAutoScaling", "TakeTurns",
      "DenyFromAnotherVpc", "DenyFromAnotherAddress",
    ]
    error_message = "a statement is missing, or there is one too many: ${output.policy_json}"
  }

  assert {
    condition = jsondecode(output.policy_json).Statement[2].Resource == [
      "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:*:autoScalingGroupName/web",
      "arn:aws:autoscaling:eu-central-1:111122223333:autoScalingGroup:*:autoScalingGroupName/web-blue",
    ]
    error_message = "lifecycle actions are not limited to these groups"
  }

  assert {
    condition     = jsondecode(output.policy_json).Statement[2].Action == ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    error_message = "a host that only watches its group may do more"
  }

  assert {
    condition     = jsondecode(output.policy_json).Statement[3].Condition.StringEquals["aws:RequestedRegion"] == "eu-central-1"
    error_message = "Auto Scaling can be read in every Region"
  }

  assert {
    condition = (
      jsondecode(output.policy_json).Statement[4].Action == ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
      && jsondecode(output.policy_json).Statement[4].Resource == "arn:aws:dynamodb:eu-central-1:111122223333:table/zdd-agent-slots"
      && jsondecode(output.policy_json).Statement[4].Condition == {
        "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["web"] }
        Null                        = { "dynamodb:LeadingKeys" = "false" }
      }
    )
    error_message = "the slots are not limited to this table and this item"
  }

  assert {
    condition = jsondecode(output.policy_json).Statement[5].Condition == {
      BoolIfExists    = { "aws:ViaAWSService" = "false" }
      Null            = { "ec2:SourceInstanceARN" = "false" }
      StringNotEquals = { "aws:Ec2InstanceSourceVpc" = "$${aws:SourceVpc}" }
    }
    error_message = "the credentials work in another VPC"
  }

  assert {
    condition = jsondecode(output.policy_json).Statement[6].Condition == {
      BoolIfExists    = { "aws:ViaAWSService" = "false" }
      Null            = { "ec2:SourceInstanceARN" = "false" }
      StringNotEquals = { "aws:Ec2InstanceSourcePrivateIPv4" = "$${aws:VpcSourceIp}" }
    }
    error_message = "the credentials work on another host of the VPC"
  }

  assert {
    condition = alltrue([
      for one in jsondecode(output.policy_json).Statement : one.Effect == "Deny" || (
        !contains(flatten([one.Action]), "*") && (one.Resource != "*" || can(one.Condition.StringEquals["aws:RequestedRegion"]))
      )
    ])
    error_message = "a statement allows everything, or something in every Region"
  }
}

run "standby" {
  command = plan

  variables {
    auto_scaling_group_names = ["web"]
    auto_scaling_mode        = "standby"
  }

  assert {
    condition = jsondecode(output.policy_json).Statement[2].Action == [
      "autoscaling:CompleteLifecycleAction", "autoscaling:EnterStandby", "autoscaling:ExitStandby",
      "autoscaling:RecordLifecycleActionHeartbeat",
    ]
    error_message = "Standby is not allowed, or more than that"
  }

  assert {
    condition     = strcontains(output.config_toml, "[auto_scaling]\nmode = \"standby\"")
    error_message = "the agent is not told: ${output.config_toml}"
  }
}

run "auto_scaling_off" {
  command = plan

  variables {
    auto_scaling_group_names = ["web"]
    auto_scaling_mode        = "off"
  }

  assert {
    condition     = !strcontains(output.policy_json, "autoscaling") && !strcontains(output.config_toml, "auto_scaling")
    error_message = "off allows or sets something"
  }
}

run "another_partition" {
  command = plan

  variables {
    target_group_arns        = ["arn:aws-cn:elasticloadbalancing:cn-north-1:111122223333:targetgroup/web/0123456789abcdef"]
    auto_scaling_group_names = ["web"]
  }

  assert {
    condition     = startswith(jsondecode(output.policy_json).Statement[2].Resource[0], "arn:aws-cn:autoscaling:cn-north-1:111122223333:")
    error_message = "the partition is not that of the target groups"
  }

  assert {
    condition     = jsondecode(aws_iam_role.this[0].assume_role_policy).Statement[0].Principal.Service == "ec2.amazonaws.com.cn"
    error_message = "EC2 has another name in China"
  }
}

# Made with jsonencode, not with aws_iam_policy_document: so `terraform test` sees the real text with a mock provider, and
# no call is needed to know it.
locals {
  arn       = split(":", var.target_group_arns[0]) # arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:targetgroup/...
  partition = local.arn[1]
  region    = local.arn[3]
  account   = local.arn[4]

  in_the_region = { StringEquals = { "aws:RequestedRegion" = local.region } }

  membership_statements = [
    {
      # IAM has no key that limits these two to one target: whole groups are as narrow as it gets.
      Sid      = "LeaveAndJoinTheseTargetGroups"
      Effect   = "Allow"
      Action   = ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"]
      Resource = var.target_group_arns
    },
  ]

  read_statements = [
    {
      # None of these can be limited to a resource:
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html
      Sid    = "SeeWhoIsHealthy"
      Effect = "Allow"
      Action = [
        "ec2:DescribeInstances", # the zones of the targets, where a load balancer does not balance across zones
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
      ]
      Resource  = "*"
      Condition = local.in_the_region
    },
  ]

  auto_scaling = length(var.auto_scaling_group_names) > 0 && var.auto_scaling_mode != "off"

  auto_scaling_statements = [
    {
      Sid    = "AnswerTheHooksOfTheseAutoScalingGroups"
      Effect = "Allow"
      Action = concat(
        ["autoscaling:CompleteLifecycleAction"],
        [for action in ["autoscaling:EnterStandby", "autoscaling:ExitStandby"] : action if var.auto_scaling_mode == "standby"],
        ["autoscaling:RecordLifecycleActionHeartbeat"],
      )
      # By name: the ARN of a group holds an id that exists only once the group does, and the group needs the instance
      # profile first.
      Resource = [
        for name in var.auto_scaling_group_names :
        "arn:${local.partition}:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${name}"
      ]
    },
    {
      # None of these can be limited to a resource:
      # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html
      Sid    = "SeeAutoScaling"
      Effect = "Allow"
      Action = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
      ]
      Resource  = "*"
      Condition = local.in_the_region
    },
  ]

  slots_statements = [
    {
      Sid      = "TakeTurns"
      Effect   = "Allow"
      Action   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
      Resource = local.slots_arn
      # ForAllValues also holds for a request without the key, so a request must have it.
      Condition = {
        "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [local.slots_name] }
        Null                        = { "dynamodb:LeadingKeys" = "false" }
      }
    },
  ]

  # https://aws.amazon.com/blogs/security/how-to-use-policies-to-restrict-where-ec2-instance-credentials-can-be-used-from/
  # Two statements, because one denies only where all its keys differ. A request that does not come through a VPC endpoint
  # has neither aws:SourceVpc nor aws:VpcSourceIp, so it is denied.
  issued_to_an_instance = {
    Null         = { "ec2:SourceInstanceARN" = "false" }
    BoolIfExists = { "aws:ViaAWSService" = "false" }
  }
  deny_statements = [
    {
      Sid       = "DenyFromAnotherVpc"
      Effect    = "Deny"
      Action    = "*"
      Resource  = "*"
      Condition = merge(local.issued_to_an_instance, { StringNotEquals = { "aws:Ec2InstanceSourceVpc" = "$${aws:SourceVpc}" } })
    },
    {
      Sid       = "DenyFromAnotherAddress"
      Effect    = "Deny"
      Action    = "*"
      Resource  = "*"
      Condition = merge(local.issued_to_an_instance, { StringNotEquals = { "aws:Ec2InstanceSourcePrivateIPv4" = "$${aws:VpcSourceIp}" } })
    },
  ]

  policy_json = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      local.membership_statements,
      local.read_statements,
      [for statement in local.auto_scaling_statements : statement if local.auto_scaling],
      [for statement in local.slots_statements : statement if var.slots != null],
      [for statement in local.deny_statements : statement if var.deny_outside_instance],
    )
  })
}

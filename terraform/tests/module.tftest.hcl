# What the module makes, and what it outputs.

mock_provider "aws" {
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::111122223333:policy/shop" }
  }
}

variables {
  name              = "shop"
  target_group_arns = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"]
}

run "a_role_that_ec2_alone_may_take" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.this[0].assume_role_policy).Statement == [
      { Action = "sts:AssumeRole", Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" } }
    ]
    error_message = "others may assume the role"
  }

  assert {
    condition     = output.role_name == "shop" && output.instance_profile_name == "shop"
    error_message = "role and profile do not have the given name"
  }

  assert {
    condition     = output.ssm_document_name == null && output.ssm_document_json == null && length(aws_ssm_document.deploy) == 0
    error_message = "a document, although none was asked for"
  }
}

run "a_policy_for_a_role_of_ones_own" {
  command = plan

  variables {
    create_role = false
  }

  assert {
    condition     = length(aws_iam_role.this) + length(aws_iam_instance_profile.this) + length(aws_iam_role_policy_attachment.this) == 0
    error_message = "a role, although none was asked for"
  }

  assert {
    condition     = output.role_name == null && output.instance_profile_name == null && output.instance_profile_arn == null
    error_message = "a name of something that does not exist"
  }
}

run "the_policy_can_be_attached_by_others" {
  command = apply

  variables {
    create_role = false
    tags        = { Team = "shop" }
  }

  assert {
    condition     = output.policy_arn == aws_iam_policy.this.arn && aws_iam_policy.this.tags == tomap({ Team = "shop" })
    error_message = "the policy cannot be found"
  }
}

run "the_settings" {
  command = plan

  variables {
    min_healthy = "50%"
    settings    = <<-EOT
      [drain]
      until = "idle"
    EOT
  }

  assert {
    condition     = output.config_toml == <<-EOT
      target_groups = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"]
      min_healthy = "50%"
      [drain]
      until = "idle"
      [notices]
      spot = "drain"
      rebalance = "warn"
      maintenance = "warn"
    EOT
    error_message = "not the given settings: ${output.config_toml}"
  }

  assert {
    condition     = strcontains(output.user_data, base64encode(output.config_toml))
    error_message = "the user data writes other settings"
  }
}

run "the_document_of_run_command" {
  command = plan

  variables {
    deploy_command = "echo 'it''s' && /usr/local/bin/deploy \"$VERSION\""
  }

  assert {
    condition     = aws_ssm_document.deploy[0].name == "shop-deploy" && aws_ssm_document.deploy[0].document_type == "Command"
    error_message = "not a document for Run Command"
  }

  assert {
    condition     = jsondecode(output.ssm_document_json).schemaVersion == "2.2"
    error_message = "a schema that Run Command on Linux does not know"
  }

  assert {
    condition = alltrue([
      for parameter in values(jsondecode(output.ssm_document_json).parameters) :
      !can(regex(parameter.allowedPattern, "1'; reboot #")) && !can(regex(parameter.allowedPattern, "$(reboot)")) && can(regex(parameter.allowedPattern, "42"))
    ])
    error_message = "a parameter can leave its quotes"
  }
}

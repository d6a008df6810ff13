# Every variable refuses what would fail later or would allow too much.

mock_provider "aws" {}

variables {
  target_group_arns = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"]
}

run "no_target_group" {
  command = plan

  variables {
    target_group_arns = []
  }

  expect_failures = [var.target_group_arns]
}

run "a_wildcard_instead_of_a_target_group" {
  command = plan

  variables {
    target_group_arns = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/*/*"]
  }

  expect_failures = [var.target_group_arns]
}

run "a_load_balancer_instead_of_a_target_group" {
  command = plan

  variables {
    target_group_arns = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:loadbalancer/app/web/0123456789abcdef"]
  }

  expect_failures = [var.target_group_arns]
}

run "target_groups_of_two_regions" {
  command = plan

  variables {
    target_group_arns = [
      "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef",
      "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef",
    ]
  }

  expect_failures = [var.target_group_arns]
}

run "a_name_with_a_space" {
  command = plan

  variables {
    name = "the shop"
  }

  expect_failures = [var.name]
}

run "an_unknown_auto_scaling_mode" {
  command = plan

  variables {
    auto_scaling_mode = "park"
  }

  expect_failures = [var.auto_scaling_mode]
}

run "an_unknown_answer_to_a_notice" {
  command = plan

  variables {
    notices = { spot = "panic" }
  }

  expect_failures = [var.notices]
}

run "a_table_that_has_a_variable" {
  command = plan

  variables {
    settings = "[notices]\nspot = \"warn\""
  }

  expect_failures = [var.settings]
}

run "an_auto_scaling_pattern" {
  command = plan

  variables {
    auto_scaling_group_names = ["web*"]
  }

  expect_failures = [var.auto_scaling_group_names]
}

run "slots_in_every_table" {
  command = plan

  variables {
    slots = { table_arn = "arn:aws:dynamodb:eu-central-1:111122223333:table/*" }
  }

  expect_failures = [var.slots]
}

run "slots_in_a_table_of_another_region" {
  command = plan

  variables {
    slots = { table_arn = "arn:aws:dynamodb:us-east-1:111122223333:table/slots" }
  }

  expect_failures = [var.slots]
}

run "slots_of_every_service" {
  command = plan

  variables {
    slots = { name = "*" }
  }

  expect_failures = [var.slots]
}

run "no_slot" {
  command = plan

  variables {
    slots = { limit = "0" }
  }

  expect_failures = [var.slots]
}

run "a_slot_and_a_half" {
  command = plan

  variables {
    slots = { limit = "1.5" }
  }

  expect_failures = [var.slots]
}

run "an_alarm_that_nobody_hears" {
  command = plan

  variables {
    slots = { alarm = { actions = [] } }
  }

  expect_failures = [var.slots]
}

run "an_alarm_of_a_span_that_cloudwatch_cannot_count" {
  command = plan

  variables {
    slots = { alarm = { actions = ["arn:aws:sns:eu-central-1:111122223333:people"], minutes = 7 } }
  }

  expect_failures = [var.slots]
}

run "a_package_without_encryption" {
  command = plan

  variables {
    package = "http://example.com/zdd-agent.deb"
  }

  expect_failures = [var.package]
}

run "a_package_that_leaves_its_quotes" {
  command = plan

  variables {
    package = "https://example.com/'$(reboot)'.deb"
  }

  expect_failures = [var.package]
}

run "a_package_by_a_relative_path" {
  command = plan

  variables {
    package = "./zdd-agent.deb"
  }

  expect_failures = [var.package]
}

run "a_url_without_a_checksum" {
  command = plan

  variables {
    package = "https://example.com/zdd-agent.deb"
  }

  expect_failures = [var.package_sha256]
}

run "a_checksum_that_is_none" {
  command = plan

  variables {
    package_sha256 = "abc"
  }

  expect_failures = [var.package_sha256]
}

run "less_than_nobody" {
  command = plan

  variables {
    min_healthy = "-1"
  }

  expect_failures = [var.min_healthy]
}

run "more_than_all" {
  command = plan

  variables {
    min_healthy = "101%"
  }

  expect_failures = [var.min_healthy]
}

run "settings_that_have_a_variable" {
  command = plan

  variables {
    settings = "min_healthy = 0"
  }

  expect_failures = [var.settings]
}

run "a_unit_with_its_suffix" {
  command = plan

  variables {
    app_units = ["app.service"]
  }

  expect_failures = [var.app_units]
}

run "a_unit_that_leaves_its_quotes" {
  command = plan

  variables {
    app_units = ["app'; reboot #"]
  }

  expect_failures = [var.app_units]
}

run "an_empty_command" {
  command = plan

  variables {
    deploy_command = " "
  }

  expect_failures = [var.deploy_command]
}

run "a_command_with_a_parameter_of_its_own" {
  command = plan

  variables {
    deploy_command = "deploy {{ Version }}"
  }

  expect_failures = [var.deploy_command]
}

run "what_is_right_is_taken" {
  command = plan

  variables {
    target_group_arns        = ["arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:111122223333:targetgroup/web/0123456789abcdef"]
    auto_scaling_group_names = ["web blue/2"]
    package                  = "https://example.com/a/zdd-agent_0.1.0_arm64.deb?X-Amz-Expires=60&a=b%20c"
    package_sha256           = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    min_healthy              = "33.3%"
    app_units                = ["app", "web@1", "a-b_c.d"]
    deploy_command           = "systemctl restart app"
  }
}

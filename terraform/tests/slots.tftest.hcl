# Turns: the table, the settings, and the alarm.

mock_provider "aws" {}

variables {
  name              = "shop"
  target_group_arns = ["arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/0123456789abcdef"]
}

run "without_slots_there_is_nothing" {
  command = plan

  assert {
    condition     = length(aws_dynamodb_table.slots) + length(aws_cloudwatch_metric_alarm.slots) == 0 && output.slots_table_arn == null
    error_message = "a table or an alarm, although none was asked for"
  }

  assert {
    condition     = !strcontains(output.policy_json, "dynamodb") && !strcontains(output.config_toml, "slots")
    error_message = "no slots allow or set something"
  }
}

run "one_at_a_time" {
  command = plan

  variables {
    slots = {}
  }

  assert {
    condition = (
      aws_dynamodb_table.slots[0].name == "shop-slots" && aws_dynamodb_table.slots[0].hash_key == "service"
      && aws_dynamodb_table.slots[0].billing_mode == "PAY_PER_REQUEST" && aws_dynamodb_table.slots[0].range_key == null
    )
    error_message = "not the table that the agent uses"
  }

  assert {
    condition = (
      aws_dynamodb_table.slots[0].deletion_protection_enabled && aws_dynamodb_table.slots[0].server_side_encryption[0].enabled
      && aws_dynamodb_table.slots[0].point_in_time_recovery[0].enabled
    )
    error_message = "the table can be lost or read"
  }

  assert {
    condition     = strcontains(output.config_toml, "[slots]\ntable = \"shop-slots\"\nname = \"shop\"\nlimit = 1\n[notices]")
    error_message = "the agent is not told: ${output.config_toml}"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.slots) == 0
    error_message = "an alarm that nobody hears"
  }
}

run "a_table_that_services_share" {
  command = plan

  variables {
    slots = { table_arn = "arn:aws:dynamodb:eu-central-1:111122223333:table/turns", name = "web", limit = "25%" }
  }

  assert {
    condition     = length(aws_dynamodb_table.slots) == 0 && output.slots_table_arn == var.slots.table_arn
    error_message = "a second table"
  }

  assert {
    condition     = strcontains(output.config_toml, "[slots]\ntable = \"turns\"\nname = \"web\"\nlimit = \"25%\"\n")
    error_message = "the agent is not told: ${output.config_toml}"
  }
}

run "an_alarm" {
  command = plan

  variables {
    slots = { alarm = { actions = ["arn:aws:sns:eu-central-1:111122223333:people"] } }
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.slots[0].dimensions == tomap({ TableName = "shop-slots" })
      && aws_cloudwatch_metric_alarm.slots[0].evaluation_periods * aws_cloudwatch_metric_alarm.slots[0].period == 3600
      && aws_cloudwatch_metric_alarm.slots[0].treat_missing_data == "notBreaching"
    )
    error_message = "not an alarm for an hour of this table"
  }
}

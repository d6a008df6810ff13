# The table in which the hosts of a service take turns. A slot never expires, so nothing in the table does.
locals {
  slots_table = var.slots == null ? null : try(element(split("/", var.slots.table_arn), 1), "${var.name}-slots")
  slots_arn   = var.slots == null ? null : "arn:${local.partition}:dynamodb:${local.region}:${local.account}:table/${local.slots_table}"
  slots_name  = try(coalesce(var.slots.name, var.name), null)
  slots_alarm = try(var.slots.alarm, null)

  slots_toml = var.slots == null ? "" : join("\n", [
    "[slots]",
    "table = ${jsonencode(local.slots_table)}",
    "name = ${jsonencode(local.slots_name)}",
    "limit = ${endswith(var.slots.limit, "%") ? jsonencode(var.slots.limit) : var.slots.limit}",
  ])
}

resource "aws_dynamodb_table" "slots" {
  # checkov:skip=CKV_AWS_119:it holds names of instances; a key of your own would be one more permission of every host
  count = var.slots == null || try(var.slots.table_arn, null) != null ? 0 : 1

  name                        = local.slots_table
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "service"
  deletion_protection_enabled = var.slots.deletion_protection
  tags                        = var.tags

  attribute {
    name = "service"
    type = "S"
  }

  server_side_encryption {
    enabled = true
  }

  point_in_time_recovery {
    enabled = true
  }
}

# Every host that holds a slot or waits for one writes about once a minute, and nobody else writes. So a table that is
# written to in every five minutes has somebody in it all the time.
resource "aws_cloudwatch_metric_alarm" "slots" {
  count = local.slots_alarm == null ? 0 : 1

  alarm_name          = "${var.name}-slot-held"
  alarm_description   = "Hosts have held slots in ${local.slots_table} without a break for ${local.slots_alarm.minutes} minutes. See: zdd-agent slots."
  namespace           = "AWS/DynamoDB"
  metric_name         = "ConsumedWriteCapacityUnits"
  dimensions          = { TableName = local.slots_table }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = local.slots_alarm.minutes / 5
  treat_missing_data  = "notBreaching" # DynamoDB reports nothing for a table that nobody writes to
  alarm_actions       = local.slots_alarm.actions
  ok_actions          = local.slots_alarm.actions
  tags                = var.tags
}

output "instance_profile_name" {
  description = "Instance profile for `iam_instance_profile` of an instance or a launch template; null without `create_role`."
  value       = one(aws_iam_instance_profile.this[*].name)
  depends_on  = [aws_iam_role_policy_attachment.this, aws_dynamodb_table.slots] # no host starts without its permissions
}

output "instance_profile_arn" {
  description = "ARN of the instance profile; null without `create_role`."
  value       = one(aws_iam_instance_profile.this[*].arn)
  depends_on  = [aws_iam_role_policy_attachment.this]
}

output "role_name" {
  description = "Role of the hosts, to attach more policies to; null without `create_role`."
  value       = one(aws_iam_role.this[*].name)
}

output "role_arn" {
  description = "ARN of the role; null without `create_role`."
  value       = one(aws_iam_role.this[*].arn)
}

output "policy_arn" {
  description = "Managed policy, for your own role."
  value       = aws_iam_policy.this.arn
}

output "policy_json" {
  description = "Text of the policy."
  value       = local.policy_json
}

output "slots_table_arn" {
  description = "Table of the slots, for `slots.table_arn` of another service; null without `slots`."
  value       = local.slots_arn
  depends_on  = [aws_dynamodb_table.slots]
}

output "user_data" {
  description = "Shell script for `user_data` (base64-encode it for a launch template), or for a part of your own cloud-init."
  value       = local.user_data
}

output "config_toml" {
  description = "The agent's settings, as the user data writes them."
  value       = "${local.config_toml}\n"
}

output "ssm_document_name" {
  description = "Document for Run Command; null without `deploy_command`."
  value       = one(aws_ssm_document.deploy[*].name)
}

output "ssm_document_json" {
  description = "Content of the document, for a pipeline that makes documents itself; null without `deploy_command`."
  value       = var.deploy_command == null ? null : local.document_json
}

output "url" {
  description = "URL of the load balancer."
  value       = "http://${aws_lb.this.dns_name}:${var.listener_port}/"
}

output "target_group_arn" {
  description = "Target group of the hosts."
  value       = aws_lb_target_group.app.arn
}

output "instance_ids" {
  description = "Instance IDs of the hosts."
  value       = aws_instance.app[*].id
}

output "addresses" {
  description = "Addresses of the hosts, for the playbook's inventory."
  value       = aws_instance.app[*].public_ip
}

output "private_addresses" {
  description = "Addresses of the hosts within the VPC."
  value       = aws_instance.app[*].private_ip
}

output "policy_json" {
  description = "What the role of the hosts may do."
  value       = module.zdd_agent.policy_json
}

output "ssm_document_name" {
  description = "Document for Run Command that deploys a version; null without `deploy_command`."
  value       = module.zdd_agent.ssm_document_name
}

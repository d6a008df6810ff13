output "url" {
  description = "Where the requests go."
  value       = "http://${aws_lb.this.dns_name}:${var.listener_port}/"
}

output "target_group_arn" {
  description = "Target group of the hosts."
  value       = aws_lb_target_group.app.arn
}

output "auto_scaling_group_name" {
  description = "The group."
  value       = aws_autoscaling_group.app.name
}

output "policy_json" {
  description = "What the hosts' role may do."
  value       = module.zdd_agent.policy_json
}

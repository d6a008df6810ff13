output "url" {
  description = "URL of the load balancer."
  value       = "http://${aws_lb.this.dns_name}:${var.listener_port}/"
}

output "target_group_arn" {
  description = "Target group of the hosts."
  value       = aws_lb_target_group.app.arn
}

output "auto_scaling_group_name" {
  description = "Name of the Auto Scaling group."
  value       = aws_autoscaling_group.app.name
}

output "policy_json" {
  description = "What the role of the hosts may do."
  value       = module.zdd_agent.policy_json
}

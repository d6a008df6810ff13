# The same as ../article with a launch template and an Auto Scaling group, in the account's default VPC.

module "zdd_agent" {
  source = "../.."

  name              = var.name
  target_group_arns = [aws_lb_target_group.app.arn]
  package           = var.package
  package_sha256    = var.package_sha256

  auto_scaling_group_names = [var.name]
  auto_scaling_mode        = var.auto_scaling_mode

  # Whatever stops the app (a deploy, a reboot, a scale-in of the group), its requests are finished first.
  app_units = [var.app_unit]

  # One host at a time is out for a deploy, whatever the deploy tool does.
  slots = {
    deletion_protection = false # terraform destroy must be able to remove an example
  }
}

data "aws_ssm_parameter" "image" {
  count = var.ami_id == null ? 1 : 0

  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

resource "aws_launch_template" "app" {
  name                   = var.name
  image_id               = var.ami_id == null ? data.aws_ssm_parameter.image[0].insecure_value : var.ami_id
  instance_type          = var.instance_type
  ebs_optimized          = true
  update_default_version = true
  key_name               = var.key_name
  vpc_security_group_ids = [aws_security_group.app.id]
  user_data              = base64encode(module.zdd_agent.user_data)

  iam_instance_profile {
    name = module.zdd_agent.instance_profile_name
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      encrypted   = true
      volume_type = "gp3"
      volume_size = 8
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = var.name, Service = var.name }
  }
}

resource "aws_autoscaling_group" "app" {
  name                = var.name
  min_size            = var.size.min
  desired_capacity    = var.size.desired
  max_size            = var.size.max
  vpc_zone_identifier = local.subnet_ids
  target_group_arns   = [aws_lb_target_group.app.arn]

  # Not ELB: a host that is out for a deploy is not broken, and must not be replaced. With ELB, set auto_scaling_mode to
  # standby, and size.desired above size.min.
  health_check_type = "EC2"

  # The agent completes it as soon as the last request of the host has ended, not after this time-out.
  initial_lifecycle_hook {
    name                 = "last-request"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = 600
    default_result       = "CONTINUE"
  }

  # Completed once the app passes. The default image has no app: there it would only wait, and give the host up.
  dynamic "initial_lifecycle_hook" {
    for_each = var.ami_id == null ? [] : ["app-passes"]

    content {
      name                 = initial_lifecycle_hook.value
      lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
      heartbeat_timeout    = 900
      default_result       = "ABANDON"
    }
  }

  launch_template {
    id      = aws_launch_template.app.id
    version = aws_launch_template.app.latest_version
  }

  tag {
    key                 = "Name"
    value               = var.name
    propagate_at_launch = true
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }

  depends_on = [aws_vpc_security_group_egress_rule.app_to_web] # the user data fetches packages
}

# What a rolling deploy with Ansible needs: two hosts behind a load balancer, and a role with which each host takes itself
# out and puts itself back. The control machine needs ssh, and no AWS key.

# What the hosts need, and what they may do.
module "zdd_agent" {
  source = "../.."

  name              = var.name
  target_group_arns = [aws_lb_target_group.app.arn]
  package           = var.package
  package_sha256    = var.package_sha256
  deploy_command    = var.deploy_command
}

data "aws_partition" "this" {}

# With this policy the hosts accept documents from Run Command.
resource "aws_iam_role_policy_attachment" "run_command" {
  count = var.deploy_command == null ? 0 : 1

  role       = module.zdd_agent.role_name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

data "aws_ssm_parameter" "image" {
  count = var.ami_id == null ? 1 : 0

  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

resource "aws_instance" "app" {
  # checkov:skip=CKV_AWS_126:detailed monitoring costs money and does not help a deploy
  count = var.instance_count

  ami                    = var.ami_id == null ? data.aws_ssm_parameter.image[0].insecure_value : var.ami_id
  instance_type          = var.instance_type
  subnet_id              = local.subnet_ids[count.index % 2]
  vpc_security_group_ids = [aws_security_group.app.id]
  ebs_optimized          = true
  key_name               = var.key_name
  iam_instance_profile   = module.zdd_agent.instance_profile_name
  user_data              = module.zdd_agent.user_data

  # Only version 2, and not from a container or through a proxy on the host: whoever reads the metadata has the role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 8
  }

  tags = { Name = "${var.name}-${count.index + 1}", Service = var.name }

  lifecycle {
    # A new image would replace every host at once, and new user data would stop every host. Change settings by playbook.
    ignore_changes = [ami, user_data]
  }

  # The user data downloads packages, and the agent of Run Command reads its permissions when it starts.
  depends_on = [
    aws_iam_role_policy_attachment.run_command,
    aws_route.internet,
    aws_route_table_association.public,
    aws_vpc_security_group_egress_rule.app_to_web,
  ]
}

resource "aws_lb_target_group_attachment" "app" {
  count = var.instance_count

  target_group_arn = aws_lb_target_group.app.arn
  target_id        = aws_instance.app[count.index].id
  port             = var.app_port
}

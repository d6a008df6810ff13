locals {
  vpc_id     = data.aws_vpc.default.id
  subnet_ids = slice(sort(data.aws_subnets.default.ids), 0, 2)
}

# Not every zone offers every instance type.
data "aws_ec2_instance_type_offerings" "this" {
  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = [var.instance_type]
  }

  lifecycle {
    postcondition {
      condition     = length(self.locations) >= 2
      error_message = "Fewer than two zones of ${var.region} offer ${var.instance_type}: choose another instance_type."
    }
  }
}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [local.vpc_id]
  }

  filter {
    name   = "default-for-az"
    values = ["true"]
  }

  filter {
    name   = "availability-zone"
    values = data.aws_ec2_instance_type_offerings.this.locations
  }
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "The load balancer"
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "balancer_from_all" {
  # checkov:skip=CKV_AWS_260:a public web service
  security_group_id = aws_security_group.balancer.id
  description       = "Requests from everywhere"
  ip_protocol       = "tcp"
  from_port         = var.listener_port
  to_port           = var.listener_port
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "balancer_to_app" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "Requests and health checks to the hosts"
  ip_protocol                  = "tcp"
  from_port                    = var.app_port
  to_port                      = var.app_port
  referenced_security_group_id = aws_security_group.app.id
}

resource "aws_security_group" "app" {
  name        = "${var.name}-app"
  description = "The hosts"
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "app_from_balancer" {
  security_group_id            = aws_security_group.app.id
  description                  = "Requests and health checks from the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = var.app_port
  to_port                      = var.app_port
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "app_from_ssh" {
  count = var.ssh_cidr == null ? 0 : 1

  security_group_id = aws_security_group.app.id
  description       = "The control machine"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = var.ssh_cidr
}

# Packages, and the AWS API.
resource "aws_vpc_security_group_egress_rule" "app_to_web" {
  for_each = toset(["80", "443"])

  security_group_id = aws_security_group.app.id
  description       = "Packages and the AWS API"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

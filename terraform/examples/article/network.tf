locals {
  vpc_id     = var.use_default_vpc ? data.aws_vpc.default[0].id : aws_vpc.this[0].id
  subnet_ids = var.use_default_vpc ? slice(sort(data.aws_subnets.default[0].ids), 0, 2) : aws_subnet.this[*].id
  offers     = data.aws_ec2_instance_type_offerings.this.locations
  zones      = [for zone in flatten(data.aws_availability_zones.this[*].names) : zone if contains(local.offers, zone)]
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
  count = var.use_default_vpc ? 1 : 0

  default = true
}

data "aws_subnets" "default" {
  count = var.use_default_vpc ? 1 : 0

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
    values = local.offers
  }
}

data "aws_availability_zones" "this" {
  # checkov:skip=CKV_AWS_394:the first two by name; a new zone gets a later letter
  count = var.use_default_vpc ? 0 : 1

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11:flow logs need their own bucket and role, which do not belong in this example
  # checkov:skip=CKV2_AWS_12:nothing is in the default security group
  count = var.use_default_vpc ? 0 : 1

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  count = var.use_default_vpc ? 0 : 1

  vpc_id = aws_vpc.this[0].id

  tags = { Name = var.name }
}

resource "aws_subnet" "this" {
  # checkov:skip=CKV_AWS_130:ssh without a VPN, and downloads without a NAT gateway; the security groups decide
  count = var.use_default_vpc ? 0 : 2

  vpc_id                  = aws_vpc.this[0].id
  cidr_block              = cidrsubnet(var.vpc_cidr, 1, count.index)
  availability_zone       = local.zones[count.index]
  map_public_ip_on_launch = true

  tags = { Name = "${var.name}-${count.index + 1}" }

  lifecycle {
    ignore_changes = [availability_zone] # the hosts stay where they are when another zone begins to offer the type
  }
}

resource "aws_route_table" "public" {
  count = var.use_default_vpc ? 0 : 1

  vpc_id = aws_vpc.this[0].id

  tags = { Name = var.name }
}

resource "aws_route" "internet" {
  count = var.use_default_vpc ? 0 : 1

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count = var.use_default_vpc ? 0 : 2

  subnet_id      = aws_subnet.this[count.index].id
  route_table_id = aws_route_table.public[0].id
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

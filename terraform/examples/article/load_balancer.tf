resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91:access logs need a bucket, which does not belong in this example
  # checkov:skip=CKV_AWS_150:terraform destroy must be able to remove an example
  # checkov:skip=CKV2_AWS_20:an example has no domain, so no certificate: add an HTTPS listener for your domain
  # checkov:skip=CKV2_AWS_28:a web application firewall does not belong in this example
  name                       = var.name
  load_balancer_type         = "application"
  subnets                    = local.subnet_ids
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true

  depends_on = [aws_internet_gateway.this] # AWS makes no public balancer in a VPC without one
}

resource "aws_lb_target_group" "app" {
  # checkov:skip=CKV_AWS_378:plain HTTP between load balancer and hosts stays inside the VPC
  name                 = var.name
  protocol             = "HTTP"
  port                 = var.app_port
  vpc_id               = local.vpc_id
  target_type          = "instance"
  deregistration_delay = var.deregistration_delay

  health_check {
    path                = var.health_check_path
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "http" {
  # checkov:skip=CKV_AWS_2:no certificate, because an example has no domain
  # checkov:skip=CKV_AWS_103:no TLS without a certificate
  load_balancer_arn = aws_lb.this.arn
  protocol          = "HTTP"
  port              = var.listener_port

  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      message_body = "nothing here"
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener_rule" "app" {
  listener_arn = aws_lb_listener.http.arn
  priority     = 100

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.app.arn
  }

  condition {
    path_pattern {
      values = ["/*"]
    }
  }
}

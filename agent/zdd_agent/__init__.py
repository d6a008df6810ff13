"""zdd-agent: takes an EC2 host out of its load balancer and puts it back without losing a request."""

__version__ = "0.1.0"

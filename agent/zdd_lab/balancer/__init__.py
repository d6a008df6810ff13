"""The load balancer's nodes: they check targets and forward requests."""

"""Load on the load balancer, and a record of each request."""

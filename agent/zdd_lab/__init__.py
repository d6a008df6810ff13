"""zdd-lab: an AWS for one machine, on loopback: control plane, instance metadata, and a load balancer."""

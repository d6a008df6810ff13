"""The bound that settings, API and command share. Standard library only: the command loads it at every start."""

# Seconds: bounds every span that a caller or a setting may give. Two days: AWS itself lets a host that enters or leaves
# a group wait no longer, https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
LONGEST_SECONDS = 172_800

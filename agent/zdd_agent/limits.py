"""The bound that settings, API and command share. Standard library only: the command loads it at every start."""

# Seconds: bounds every span that a caller or a setting may give. Two days: no longer does AWS itself let a host wait
# that enters or leaves, https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html
LONGEST_SECONDS = 172_800

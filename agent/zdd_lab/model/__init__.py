"""What AWS knows and how it behaves, as values and rules without I/O and without a clock."""

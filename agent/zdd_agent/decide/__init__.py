"""Pure decisions: what an operation does next, from the record and the evidence."""

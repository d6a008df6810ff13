"""The command. Standard library only."""

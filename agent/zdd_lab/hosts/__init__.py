"""The lab's hosts: each runs instance metadata, an app and an agent."""

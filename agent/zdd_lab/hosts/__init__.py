"""The lab's hosts: instance metadata, identity, the app."""

"""Pure: what samples of the app's connections prove."""

"""What a person sees: the demo, its screen and its picture."""

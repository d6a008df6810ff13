"""What a deploy looks like: progress on the screen, and a picture of it."""

"""What cannot be a test: speed, scale and steadiness, side by side with peers or a limit."""

"""What a user is promised, tried on a real node. Each scenario is named after what it proves."""

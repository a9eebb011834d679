"""Search, composition and new users from codes alone."""

"""The built-in recipes: from rows on S3 to a registered, evaluated model version."""

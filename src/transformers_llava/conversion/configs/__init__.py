"""Convert configurations: original, built-in and ours."""

"""Read raw records and convert them to examples."""

"""Put a publication together in a folder."""

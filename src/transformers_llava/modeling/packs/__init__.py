"""Keep the documents of a packed row apart."""

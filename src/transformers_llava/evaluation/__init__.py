"""What a model gets right: typed results that the card and the report print."""

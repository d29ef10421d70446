"""Give a run its data: stored and measured first, or streamed while it trains."""

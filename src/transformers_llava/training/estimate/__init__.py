"""Estimate what a recipe will cost, from shapes alone: `llava train --dry_run`."""

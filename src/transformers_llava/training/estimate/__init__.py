"""A recipe to what it will cost, from shapes alone: `llava train --dry_run`."""

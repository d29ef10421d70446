"""Read, rename and merge weights of every layout."""

"""Find secrets and private paths before a publication leaves."""

"""Programs behind every claim: each prints a table and can write JSON."""

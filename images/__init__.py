"""How Rowlock's container images are made: `make image`, `make base-image`, and what the launcher's payload holds."""

"""The resource: its models, the CRD made from them, and the reader of manifests."""

"""The only room that knows kopf and the API client.

Reading order: `main` puts the parts together; `watch` (kopf) and `resync` (lists) feed `observed`, the map
of what the cluster holds, and put the job's key into `queue`; `reconciler` takes a key, asks
`core.decide` what shall be done, and carries it out through `status`, `actions` and `events`.
"""

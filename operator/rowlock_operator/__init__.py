"""The operator: core decides, resources builds, coordinator talks to launchers, kube talks to Kubernetes."""

"""What a lost pod costs on a cluster, beside torchrun in a JobSet on the same cluster in the same run."""

"""The budgets, measured: each as the median ratio of interleaved pairs, ours against a peer."""

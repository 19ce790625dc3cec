"""Federated recurrent networks on a cluster of Raspberry Pis."""

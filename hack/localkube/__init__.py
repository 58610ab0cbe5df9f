"""A real Kubernetes on one Linux machine: built from Go modules, run as plain processes. See README.md."""

"""All input and output: the only package that talks to the Kubernetes API server and to pods."""

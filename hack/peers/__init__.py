"""Other people's controllers on a control plane of hack/localkube: to measure beside, and to test against."""

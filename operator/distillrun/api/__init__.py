"""The DistillRun resource: models (the schema's only source) and the CRD made of them."""

GROUP = "distillrun.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DistillRun"
PLURAL = "distillruns"
SINGULAR = "distillrun"
SHORT_NAME = "dr"

"""The resolve stage: every input pinned and looked at before anything costs money."""

"""What the tests of evaluate and serve share: a fake model server, model folders for it, stages as processes."""

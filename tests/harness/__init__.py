"""What the tests and the demo share: the stand-in pod, the debug adapter client, the product's command line."""

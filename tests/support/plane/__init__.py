"""Modal's control plane and its containers, on loopback; tests.support.controlplane starts it."""

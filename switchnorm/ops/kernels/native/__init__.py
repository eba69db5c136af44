"""The fast path on a CPU: one compiled library, called through ctypes."""
